"""Where a network runs, and what must hold there for the same input to give the same weights."""

import contextlib
import platform
from collections.abc import Iterator, Sequence

import torch


def pick_device(wanted: str | None = None) -> torch.device:
    """Return the wanted device, else the first CUDA device, else the CPU.

    Raises
    ------
    ValueError
        If a CUDA device is wanted that torch does not see.
    """
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {wanted!r} was asked for, torch sees no CUDA device; use cpu")
    return device


def visible_devices() -> list[str]:
    """Return every CUDA device this process may use, else the CPU."""
    return [f"cuda:{n}" for n in range(torch.cuda.device_count())] or ["cpu"]


def device_name(devices: Sequence[str]) -> str:
    """Return what the devices call themselves, for the record of a run."""
    device, many = pick_device(devices[0]), len(devices)
    times = f"{many} x " if many > 1 else ""
    if device.type == "cuda":
        return times + torch.cuda.get_device_name(device)
    return f"{times}cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Make torch choose repeatable algorithms inside the block, and leave its settings as found.

    On the CPU they are enforced: the same threads, seed and input give the same bits. CUDA has no
    repeatable kernel for some backward passes, so there results agree within a tolerance only.
    """
    before = torch.are_deterministic_algorithms_enabled()
    benchmark, fixed = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(device.type == "cpu")
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    # The caller's random state is his own: we seed inside and put his back.
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, fixed


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the autocast context: half precision on a GPU, nothing on the CPU."""
    if device.type != "cuda":
        return torch.autocast("cpu", enabled=False)
    return torch.autocast("cuda", dtype=half_type())


def half_type() -> torch.dtype:
    """Return bfloat16 where the GPU has it, for it needs no loss scaling, else float16."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
