"""What a recipe does that does not suit a modality: said before anything is started.

Nothing here refuses a recipe: a person may know better, but has been told.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.imaging.steps import StepConfig
from tasks.imaging.window import WINDOWS

MEASURED = frozenset({"CT", "PT"})
"""Modalities whose numbers are measurements: Hounsfield units, activity."""

SAME_IN_ALL = frozenset({"CT"})
"""Modalities whose numbers mean the same in every patient; activity depends on the dose."""

HAS_NO_COIL = frozenset({"CT", "PT", "CR", "DX", "MG", "US"})


@dataclass(frozen=True)
class Rule:
    """A step that some modalities had better not see, and why."""

    step: str
    modalities: frozenset[str]
    text: str
    applies: Callable[[Any], bool] = lambda params: True


RULES = (
    Rule(
        "clahe",
        MEASURED,
        "makes the same tissue another number in every image, so that densities, thresholds and "
        "measurements mean nothing after it: use window or clip; CLAHE is for radiographs",
    ),
    Rule(
        "histogram_standard",
        SAME_IN_ALL,
        "gives up units that already mean the same in every patient: use normalise with method: "
        "fingerprint",
    ),
    Rule(
        "normalise",
        frozenset({"MR", "CR", "DX", "MG", "US"}),
        "has one scale for all images, and their numbers mean something else in each: use zscore, "
        "masked_zscore or percentile",
        lambda params: params.method == "fingerprint",
    ),
    Rule(
        "percentile_clip",
        SAME_IN_ALL,
        "clips every image at other values, although its units mean the same in all: use clip "
        "with numbers",
    ),
    Rule(
        "bias_correction",
        HAS_NO_COIL,
        "models the coils of MR, which are not there: take it out",
    ),
    Rule(
        "window",
        frozenset({"MR", "PT", "CR", "DX", "MG", "US"}),
        "has Hounsfield units, which only CT has: give level and width, or name: header",
        lambda params: params.name in WINDOWS,
    ),
    Rule(
        "log_compress",
        frozenset({"US"}),
        "is for raw envelopes: what an ultrasound scanner stores as DICOM is compressed already",
    ),
    Rule(
        "lee",
        frozenset({"US"}),
        "expects speckle that multiplies: after a scanner's log compression say kind: additive",
        lambda params: params.kind == "multiplicative",
    ),
)


def advice(steps: Sequence[StepConfig], modalities: Iterable[str]) -> tuple[str, ...]:
    """Return one sentence for each step that does not suit a modality.

    Parameters
    ----------
    steps : sequence of StepConfig
    modalities : iterable of str
        As in DICOM, e.g. CT; those of the cohort.
    """
    present, found = frozenset(modalities), []
    for number, config in enumerate(steps, start=1):
        for rule in RULES:
            hit = sorted(rule.modalities & present)
            if config.step == rule.step and hit and rule.applies(config.parameters()):
                found.append(
                    f"recipe step {number}, {rule.step}, on {' and '.join(hit)} {rule.text}"
                )
    return tuple(found)
