"""What this machine's GPUs do, by the same code that trains: ``python -m flows.gpu_check``.

Trains one fold a device on made-up images, kills a training and goes on with it, takes memory away
until batches must be halved, and compares GPU and CPU. Writes ``docs/gpu.md``. Without a GPU it
says so, claims nothing and leaves the page as it is.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flows.console import heading, say
from flows.gpu_page import Figures, judge, page
from flows.settings import Settings, child_environment, visible_gpus

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gpu.md"

MEMORY_SHARES = (0.8, 0.6, 0.45, 0.3, 0.2, 0.1)
"""Shares of a training's peak memory that are left to it, until a batch no longer fits."""

SAMPLE_SECONDS = 0.5
"""How often nvidia-smi is asked while a fold trains."""

WAIT_SECONDS = 600


@dataclass(frozen=True)
class Load:
    """Size of the work: large enough to keep a GPU busy for a minute or so."""

    size: int = 256
    cases: int = 640
    epochs: int = 8
    batch: int = 64
    features: tuple[int, ...] = (32, 64, 128, 256)


def main(argv: Sequence[str] | None = None) -> int:
    """Check every CUDA device, print and write the page; 1 when something is out of its limit."""
    parser = argparse.ArgumentParser(prog="python -m flows.gpu_check", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write")
    parser.add_argument(
        "--fold", nargs=3, metavar=("DIR", "DEVICE", "PAUSE"), help=argparse.SUPPRESS
    )
    args = parser.parse_args(argv)
    if args.fold:
        train(Path(args.fold[0]), args.fold[1], pause=float(args.fold[2]))
        return 0
    devices = cuda_devices()
    if not devices:
        print("gpu-check: torch sees no CUDA device here, so nothing was measured or written.")
        return 0
    with tempfile.TemporaryDirectory(prefix="radloop-gpu-") as scratch:
        heading("one fold a device, each on its own worker")
        placed = fold_a_device(Path(scratch))
        found = [examine(Path(scratch) / f"device{n}", device) for n, device in enumerate(devices)]
    problems = judge(found, placed)
    text = page(found, placed, problems)
    args.page.write_text(text)
    print(text)
    say(f"written to {args.page}")
    return 1 if problems else 0


def cuda_devices() -> list[str]:
    """Return the devices that torch can use."""
    import torch

    return [f"cuda:{n}" for n in range(torch.cuda.device_count())]


def examine(folder: Path, device: str, load: Load | None = None) -> Figures:
    """Measure one device (``cpu`` works too, for a test of this program)."""
    from tasks.learn.device import device_name

    load = load or Load()
    heading(f"{device}: {device_name([device])}")
    train(folder / "warm", device, Load(load.size, load.cases // 4, 1, load.batch, load.features))
    with gpu_use(device) as busy:
        plain = train(folder / "plain", device, load)
    say(f"  a fold: {plain.seconds:.1f} s, waits for data {plain.data_wait:.0%} of the time")
    with without_amp():
        full = train(folder / "full", device, load)
    say(f"  without half precision: {full.seconds:.1f} s")
    killed = kill_and_resume(folder / "killed", device)
    whole = train(folder / "whole", device)
    say(f"  killed after {killed.resumed} epochs and gone on")
    halved = short_of_memory(folder / "short", device, plain, load)
    on_gpu, on_cpu = (predict(plain.weights_path, where, load) for where in (device, "cpu"))
    memory = max((row.get("memory_gb", 0.0) for row in plain.history), default=0.0)
    return Figures(
        device=device,
        name=plain.device,
        seconds=plain.seconds,
        seconds_without_amp=full.seconds,
        data_wait=plain.data_wait,
        busy=float(np.mean(busy)) if busy else None,
        memory_gb=memory or None,
        batches=None if halved is None else (load.batch, halved.batch),
        resumed=killed.resumed,
        resume_difference=_apart(killed.val_probability, whole.val_probability),
        difference=_apart(on_gpu, on_cpu),
    )


SMALL = Load(size=32, cases=48, epochs=6, batch=8, features=(4, 8))
"""The training that is killed: short epochs, so that the kill falls between two of many."""


def train(folder: Path, device: str | None, load: Load = SMALL, *, pause: float = 0.0) -> Any:
    """Train one fold through the path every training takes."""
    from tasks.learn.train import train_fold

    source, cases = made_up(load)
    ids = [case.case_id for case in cases]
    train_ids, val_ids = ids[: 3 * len(ids) // 4], ids[3 * len(ids) // 4 :]

    def rest(record: dict[str, Any]) -> None:
        if pause:
            print(record["epoch"], flush=True)
            time.sleep(pause)

    return train_fold(
        plan_of(load), source, cases, train_ids, val_ids, folder, 7, on_epoch=rest, device=device
    )


def made_up(load: Load) -> tuple[Any, list[Any]]:
    """Return noisy images; every second one holds a brighter square somewhere."""
    from tasks.learn.dataset import ArrayCases, TrainingCase

    rng = np.random.default_rng(0)
    images, cases = {}, []
    for number in range(load.cases):
        image = rng.normal(size=(1, load.size, load.size)).astype(np.float32)
        if number % 2:
            side = load.size // 4
            y, x = rng.integers(0, load.size - side, 2)
            image[0, y : y + side, x : x + side] += 1.5
        case_id = f"{number:032x}"
        images[case_id] = image
        cases.append(TrainingCase(case_id, f"patient{number}", "part", target=number % 2))
    return ArrayCases(images), cases


def plan_of(load: Load) -> Any:
    """Return the plan of the classifier that is trained."""
    from tasks.learn.network_candidate import NetworkCandidate
    from tasks.learn.plan import plan_network

    candidate = NetworkCandidate(
        name="check", epochs=load.epochs, batch=load.batch, features=load.features
    )
    shape = (1, load.size, load.size)
    return plan_network(candidate, task="classification", shape=shape, n_classes=2)


def predict(weights_path: str, device: str, load: Load) -> np.ndarray:
    """Return a trained fold's probabilities (n, 2) of the validation side, on one device."""
    from tasks.learn import checkpoint
    from tasks.learn.device import pick_device
    from tasks.learn.fold import read_weights
    from tasks.learn.infer import classify
    from tasks.learn.networks import build_network

    plan = plan_of(load)
    network = build_network(plan)
    checkpoint.restore_network(network, read_weights(weights_path)[0])
    where = pick_device(device)
    source, cases = made_up(load)
    images = [source.image(case.case_id) for case in cases[3 * len(cases) // 4 :]]
    return classify([network.to(where).eval()], plan, images, where)


def kill_and_resume(folder: Path, device: str) -> Any:
    """Kill a training (SIGKILL) after its second epoch, go on with it, and return its result."""
    command = [sys.executable, "-m", "flows.gpu_check", "--fold", str(folder), device, "1"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment())
    with running:
        for line in running.stdout:
            if line.strip() == "2":
                running.send_signal(signal.SIGKILL)
                break
    return train(folder, device)


def short_of_memory(folder: Path, device: str, plain: Any, load: Load) -> Any:
    """Leave a training ever less memory until its batch is halved; None if it never was."""
    import torch

    if not device.startswith("cuda"):
        return None
    peak = max(row["memory_gb"] for row in plain.history) * 1e9
    total = torch.cuda.get_device_properties(device).total_memory
    try:
        for share in MEMORY_SHARES:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(min(1.0, peak * share / total), device)
            try:
                result = train(folder / f"{share}", device, load)
            except torch.OutOfMemoryError as error:
                say(f"  {share:.0%} of the memory: {error}")
                return None
            if result.batch < load.batch:
                say(f"  {share:.0%} of the memory: batch {load.batch} became {result.batch}")
                return result
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    return None


@contextmanager
def without_amp() -> Iterator[None]:
    """Train in single precision inside the block."""
    from tasks.learn import infer, training

    kept = training.mixed_precision
    training.mixed_precision = infer.mixed_precision = lambda _device: nullcontext()
    try:
        yield
    finally:
        training.mixed_precision = infer.mixed_precision = kept


@contextmanager
def gpu_use(device: str) -> Iterator[list[float]]:
    """Collect nvidia-smi's use in percent during the block; empty where there is no nvidia-smi."""
    seen: list[float] = []
    done = threading.Event()
    number = device.partition(":")[2]
    named = visible_gpus()
    shown = named[int(number)] if number and int(number) < len(named) else number

    def look() -> None:
        command = ["nvidia-smi", f"--id={shown}", "--query-gpu=utilization.gpu"]
        while not done.wait(SAMPLE_SECONDS):
            try:
                answer = subprocess.run(
                    [*command, "--format=csv,noheader,nounits"],
                    capture_output=True, text=True, timeout=10, check=True,
                )  # fmt: skip
                seen.append(float(answer.stdout))
            except (OSError, ValueError, subprocess.SubprocessError):
                return

    watcher = threading.Thread(target=look, daemon=True)
    if number:
        watcher.start()
    try:
        yield seen
    finally:
        done.set()
        if number:
            watcher.join()


def fold_a_device(
    folder: Path, gpus: list[str] | None = None, fit: Callable[[str], tuple[str, str]] | None = None
) -> list[tuple[str, str]]:
    """Run one fold a device at once, on workers as a training has them.

    Returns
    -------
    list of (str, str)
        ``CUDA_VISIBLE_DEVICES`` of the worker and the device's own name, one a fold.
    """
    import dask
    from distributed import Client

    from flows.runners import DASK_CONFIG, local_cluster, need_resource

    devices = visible_gpus() if gpus is None else gpus
    settings = Settings(home=folder / "home", workers=1)
    with (
        dask.config.set(DASK_CONFIG),
        local_cluster(settings, gpus=devices) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(len(devices), timeout=WAIT_SECONDS)
        want = need_resource(cluster.scheduler_address, "GPU", 1)
        folds = [
            client.submit(fit or fold_here, str(folder / f"fold{n}"), resources=want, pure=False)
            for n in range(len(devices))
        ]
        return client.gather(folds)


def fold_here(folder: str) -> tuple[str, str]:
    """Train a fold on this worker's only device; return its number and name."""
    result = train(Path(folder), None, Load(size=128, cases=256, epochs=4))
    return ",".join(visible_gpus()), result.device


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


if __name__ == "__main__":
    sys.exit(main())
