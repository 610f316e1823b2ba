"""What a model says about one case, and what it was asked about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.learn.boxes import Findings


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a model says about one case."""

    case_id: str
    input_hash: str
    """Hash of the digests of the files, or of the row."""
    probability: np.ndarray | None = None
    """(k,) calibrated, of a classification."""
    value: float | None = None
    """In the model's unit, of a regression."""
    mask: np.ndarray | None = None
    """(z, y, x) uint8 on the source's own grid, of a segmentation."""
    findings: Findings | None = None
    """On the source's own grid, the best first, of a detection; outlined where they are shown."""
    image: np.ndarray | None = None
    """(z, y, x) the source in real units."""
    affine: np.ndarray | None = None
    sized: bool = True
    """Whether the source says how large its voxels are; else, and in a cine, they count as 1."""
    placed: bool = True
    """Whether the source lies in the patient; else its affine is that of the image plane."""
    at_detector: bool = False
    """Whether its pixels are measured at the detector, where a radiograph is larger than life."""
    axes: str | None = None
    """Where the indices z, y and x of what the model saw rise to, as `orientation_of` names it;
    None of what does not lie in the patient."""
    prepared: np.ndarray | None = None
    """([c,] z, y, x) what the model saw."""
    shown: np.ndarray | None = None
    """(z, y, x) of what the model saw the channel that is shown in pictures."""
    present: tuple[bool, ...] = ()
    """Which channels the case had; empty where the model sees one series."""
    traces: tuple[Mapping[str, Any], ...] = ()
    distance: float | None = None
    unlike: bool | None = None
    study: str | None = None
    """Where studies are judged, the first case of its study."""
    of_study: np.ndarray | None = None
    """(k,) calibrated, of all views of the study that could be judged."""
    views: int = 1
    """How many these are."""
    view_ids: tuple[str, ...] = ()
    """Their case ids, where studies are judged."""

    @property
    def answer(self) -> np.ndarray | None:
        """(k,) what is said: of the study where studies are judged, else of the case."""
        return self.probability if self.of_study is None else self.of_study
