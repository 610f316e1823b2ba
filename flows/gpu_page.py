"""What was measured on GPUs: judged against its limits and written as ``docs/gpu.md``."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

AGREEMENT = 0.02
"""Largest difference of a probability between CPU (float32) and GPU (half precision): bfloat16
keeps 8 bits, so activations are off by up to 0.4 %, and a softmax amplifies a few of them."""

RESUME = 0.02
"""Largest difference of a validation probability between an undisturbed training and one that was
killed: CUDA has no repeatable kernel for some backward passes (on the CPU it is exactly 0)."""


@dataclass(frozen=True)
class Figures:
    """What was measured on one device; None is "not measured"."""

    device: str
    name: str
    seconds: float | None = None
    seconds_without_amp: float | None = None
    data_wait: float | None = None
    busy: float | None = None
    """Mean GPU use in percent while a fold trained, by nvidia-smi."""
    memory_gb: float | None = None
    batches: tuple[int, int] | None = None
    """Planned batch, and what it was halved to when memory was short."""
    resumed: int | None = None
    """Epochs done before the kill and not done again."""
    resume_difference: float | None = None
    difference: float | None = None
    """Largest difference of a probability between GPU and CPU."""


def judge(found: Sequence[Figures], placed: Sequence[tuple[str, str]]) -> list[str]:
    """Return a sentence for everything that is out of its limit."""
    problems = []
    if len({device for device, _ in placed}) != len(found):
        problems.append(f"{len(placed)} folds ran on {len({d for d, _ in placed})} devices")
    for one in found:
        if one.difference is None or one.difference > AGREEMENT:
            problems.append(f"{one.device}: GPU and CPU differ by {_shown(one.difference)}")
        if one.resume_difference is None or one.resume_difference > RESUME:
            problems.append(f"{one.device}: after a kill {_shown(one.resume_difference)} off")
        if not one.resumed:
            problems.append(f"{one.device}: a killed training began anew")
        if one.batches is None:
            problems.append(f"{one.device}: lack of memory was not answered by a smaller batch")
    return problems


def page(
    found: Sequence[Figures], placed: Sequence[tuple[str, str]], problems: Sequence[str]
) -> str:
    """Return docs/gpu.md."""
    rows = (
        ("a fold, half precision (s)", lambda f: _shown(f.seconds, ".1f")),
        ("a fold, single precision (s)", lambda f: _shown(f.seconds_without_amp, ".1f")),
        ("waits for data (share of the time)", lambda f: _shown(f.data_wait, ".1%")),
        ("GPU use while training (%)", lambda f: _shown(f.busy, ".0f")),
        ("most memory (GB)", lambda f: _shown(f.memory_gb, ".2f")),
        ("batch, and when memory is short", lambda f: _pair(f.batches)),
        ("epochs kept after kill -9", lambda f: _shown(f.resumed, "d")),
        ("probability off after kill -9", lambda f: _shown(f.resume_difference, ".2g")),
        ("probability off, GPU against CPU", lambda f: _shown(f.difference, ".2g")),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "monai", "distributed"))
    lines = [
        *HEAD,
        f"Taken {datetime.now(UTC):%Y-%m-%d} on {platform.machine()}, Python "
        f"{platform.python_version()}, {versions}, CUDA {_cuda()}.",
        "",
        "| | " + " | ".join(f"{f.device}: {f.name}" for f in found) + " |",
        "|---" * (len(found) + 1) + "|",
        *(f"| {what} | " + " | ".join(show(f) for f in found) + " |" for what, show in rows),
        "",
        f"Folds at once, one a device: {', '.join(f'{d} ({n})' for d, n in placed)}.",
        "",
        *(f"- Out of its limit: {problem}." for problem in problems),
        *([] if problems else ["Everything within its limit."]),
    ]
    return "\n".join(lines).rstrip() + "\n"


HEAD = (
    "# What a GPU does",
    "",
    "`make gpu-check` runs on any machine with CUDA and replaces this page. It measures, by the "
    "code that trains:",
    "",
    "- a fold a device at once, each on a worker of its own (`CUDA_VISIBLE_DEVICES`, `GPU=1`);",
    "- the time of a fold with half and with single precision, the share of it spent waiting for "
    "data, the GPU's use by nvidia-smi, the most memory;",
    "- the batch that is left when memory is taken away until it no longer fits;",
    "- a training killed with -9 and gone on with: epochs kept, and the largest difference of a "
    f"validation probability from an undisturbed run (limit {RESUME}; on the CPU it is 0);",
    f"- the largest difference of a probability between GPU and CPU (limit {AGREEMENT}: bfloat16 "
    "keeps 8 bits).",
    "",
    "The images are made up; the times compare devices and settings, not clinical tasks.",
    "",
)


def _cuda() -> str:
    import torch

    return torch.version.cuda or "none"


def _shown(value: float | None, form: str = ".3g") -> str:
    return "not measured" if value is None else format(value, form)


def _pair(value: tuple[int, int] | None) -> str:
    return "not measured" if value is None else f"{value[0]}, {value[1]}"
