"""The classical detector: places found by `tasks.learn.places`, told apart by an estimator.

It is fitted in the same folds as networks and answers with findings, so the same figures judge it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import ModelRefused
from tasks.learn.boxes import (
    Findings,
    boxes_of_case,
    classes_of_places,
    rows_of_findings,
)
from tasks.learn.candidate import PLACE_COLUMNS, TabularCandidate
from tasks.learn.dataset import CaseSource, TrainingCase
from tasks.learn.places import PlaceFinder, finder_of

if TYPE_CHECKING:
    import pandas as pd

    from tasks.learn.model_file import ModelSpec


@dataclass(frozen=True, eq=False)
class FittedPlaces:
    """A finder of places and the estimator that tells them apart."""

    finder: PlaceFinder
    pipeline: Any
    params: Mapping[str, Any]
    """What a search has chosen."""


def fit_places(
    candidate: TabularCandidate, source: CaseSource, cases: Sequence[TrainingCase], seed: int
) -> FittedPlaces:
    """Fit the detector on cases with their boxes.

    A place is right when its middle lies within a box, as FROC counts; one within an irrelevant box
    alone is left out.

    Parameters
    ----------
    candidate : TabularCandidate
        Its ``features`` are some of `PLACE_COLUMNS`; all of them where it names none.
    source : CaseSource
        Images that passed the recipe.
    cases : sequence of TrainingCase
    seed : int

    Raises
    ------
    ValueError
        If there is no box, or images have channels.
    """
    from tasks.learn.tabular import fit_pipeline, tune

    wanted = [boxes_of_case(case.boxes, source.affine(case.case_id)) for case in cases]
    finder = finder_of(
        (_plane(source.image(case.case_id)), box[~ignored])
        for case, (box, _, ignored) in zip(cases, wanted, strict=True)
    )
    tables, targets, groups = [], [], []
    for case, (box, label, ignored) in zip(cases, wanted, strict=True):
        place, measured = finder.find(_plane(source.image(case.case_id)))
        target, counts = classes_of_places(place, box, label, ignored)
        tables.append(measured[counts])
        targets.append(target[counts])
        groups.append(np.repeat(case.patient_key, int(counts.sum())))
    X = _frame(np.concatenate(tables), candidate.features)
    y, patients = np.concatenate(targets), np.concatenate(groups)
    if len(np.unique(y)) < 2:
        raise ValueError(
            f"{candidate.name}: the {len(y)} places of the training side are all "
            f"{'wrong' if not y.any() else 'right'}, so nothing tells them apart; widen the cohort"
        )
    found = tune(candidate, X, y, patients, seed)
    params = dict(found.best) if found else {}
    return FittedPlaces(finder, fit_pipeline(candidate, params, X, y, patients, seed), params)


def find_places(finder: PlaceFinder, pipeline: Any, image: np.ndarray, n_classes: int) -> Findings:
    """Return what a fitted detector finds in an image that passed the recipe, the best first.

    Parameters
    ----------
    finder : PlaceFinder
    pipeline : fitted estimator
        Of `PLACE_COLUMNS`; class 0 is the background.
    image : (z, y, x) array
    n_classes : int
        Of what is to be found.
    """
    from tasks.learn.tabular import predict_table

    plane = _plane(image)
    box, measured = finder.find(plane)
    if not len(box):
        return Findings.none()
    said = predict_table(pipeline, _frame(measured), n_classes + 1)[:, 1:]
    label, score = said.argmax(1), said.max(1)
    # Places lie in the image's middle of a voxel; their boxes may reach beyond its border.
    box = np.clip(box, -0.5, np.array(plane.shape) - 0.5)
    return Findings(label, score, box).take(np.argsort(-score, kind="stable"))


def fold_findings(
    candidate: TabularCandidate,
    source: CaseSource,
    cases: Sequence[TrainingCase],
    held: Sequence[str],
    seed: int,
    n_classes: int,
) -> tuple[FittedPlaces, list[np.ndarray]]:
    """Fit the detector without the held cases and return what it finds in each of them.

    Returns
    -------
    FittedPlaces
    list of (b, 14) arrays
        Rows as `tasks.learn.boxes.rows_of_findings` gives them, in the order of ``held``.
    """
    training = [case for case in cases if case.case_id not in set(held)]
    fitted = fit_places(candidate, source, training, seed)
    rows = []
    for case_id in held:
        found = find_places(fitted.finder, fitted.pipeline, source.image(case_id), n_classes)
        rows.append(rows_of_findings(found, source.affine(case_id)))
    return fitted, rows


class PlaceModel:
    """A classical detector that was kept, asked as a network's `Model` is."""

    def __init__(self, spec: "ModelSpec", pipeline: Any) -> None:
        self.spec, self.pipeline = spec, pipeline
        if spec.places is None:
            raise ModelRefused("model.json does not say what is looked for; train the model again")
        self._finder = finder_from(spec.places)

    def detect(self, image: np.ndarray) -> Findings:
        """Return what is found in an image (z, y, x) that passed the recipe, the best first."""
        return find_places(self._finder, self.pipeline, image, len(self.spec.classes))

    def ood_score(self, image: np.ndarray) -> None:
        """Return None: how unlike the training cases an image is was not measured."""
        return None


def finder_from(said: Mapping[str, Any]) -> PlaceFinder:
    """Return the finder that `finder_said` wrote down."""
    return PlaceFinder(tuple(tuple(size) for size in said["sizes"]), int(said["sign"]))


def finder_said(finder: PlaceFinder) -> dict[str, Any]:
    """Return a finder as JSON has it."""
    return asdict(finder)


def _frame(measured: np.ndarray, columns: Sequence[str] = ()) -> "pd.DataFrame":
    import pandas as pd

    frame = pd.DataFrame(measured, columns=list(PLACE_COLUMNS))
    return frame[list(columns)] if columns else frame


def _plane(image: np.ndarray) -> np.ndarray:
    """Return an image of one channel as (z, y, x)."""
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3:
        raise ValueError(
            f"places are looked for in one channel, the image has {len(image)}; use a network"
        )
    return np.asarray(image, np.float32)
