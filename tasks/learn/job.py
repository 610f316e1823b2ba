"""A training, written down: its cases and what a worker needs to fit a fold of a candidate.

The coordinator writes the job to a folder; a task gets the folder's key, a candidate's name and a
fold. The key is a hash of everything that matters, so a run that was killed finds its folds again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks.cohort.channels import ChannelSet
from tasks.evaluate.studies import Views
from tasks.hashing import digest_json
from tasks.labels.regions import Regions, values_of
from tasks.learn.candidate import TabularCandidate
from tasks.learn.fusion import FusionCandidate
from tasks.learn.header import header_frame
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import NetworkPlan, plan_network

JOB_FILE = "job.json"

Candidate = NetworkCandidate | TabularCandidate | FusionCandidate

_KINDS: dict[str, type[Candidate]] = {"network": NetworkCandidate, "fusion": FusionCandidate}


@dataclass(frozen=True)
class JobCase:
    """A labelled case and where its prepared image lies."""

    case_id: str
    patient_key: str
    side: str
    """``train`` or ``test`` (the current edition)."""
    fold: int | None
    target: float | None = None
    """Class number, for a classification; the number itself, for a regression."""
    part_path: str | None = None
    label_part_path: str | None = None
    part_digest: str | None = None
    """Of the part's manifest, as the catalog has it; checked when the part is opened."""
    label_part_digest: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Header fields of an image, columns of a table's row."""
    features: Mapping[str, float | None] = field(default_factory=dict)
    """What the recipe's features steps measured in an image, by column."""
    boxes: tuple[tuple[float, ...], ...] = ()
    """What is to be found, for a detection; see `tasks.learn.dataset.TrainingCase`."""
    study: str | None = None
    """Where studies are judged: the id of the study's first case, which stands for all of them."""

    @property
    def unit(self) -> str:
        """What the case is judged as: itself, or its study."""
        return self.study or self.case_id


@dataclass(frozen=True)
class TrainingJob:
    """Everything a training depends on; its :attr:`key` changes when any of it does."""

    scenario: str
    task: str
    classes: tuple[str, ...]
    """Of a segmentation the foreground ones, in the order of their label values; of a regression
    its one quantity."""
    positive: str | None
    primary: str
    candidates: tuple[Mapping[str, Any], ...]
    cases: tuple[JobCase, ...]
    shape: tuple[int, int, int] = (1, 1, 1)
    """(z, y, x) the recipe ends in, else the median prepared training shape."""
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    recipe: Mapping[str, Any] | None = None
    leave_out: tuple[str, ...] = ()
    """Columns of a table that hold the label or the split."""
    seed: int = 0
    masks: Mapping[str, Any] | None = None
    """How the masks of a segmentation are measured; its `MaskConfig`."""
    box_sizes: tuple[tuple[float, float, float], ...] = ()
    """(z, y, x) voxels of the training boxes on their prepared grids, of a detection."""
    regions: Regions = ()
    """Of a segmentation, name and label values of what is learned and measured as a whole."""
    views: Views | None = None
    """How the views of a study are put together, where studies are judged."""
    unit: str = ""
    """UCUM unit of a regression's number."""

    @property
    def key(self) -> str:
        """Id of this training."""
        return digest_json(self._body())

    def _body(self) -> dict[str, Any]:
        body = asdict(self)
        # What only some tasks know is not told where it is not said: other jobs keep their keys.
        if not self.regions:
            del body["regions"]
        if not self.unit:
            del body["unit"]
        unsaid = []
        if self.task != "detection":
            del body["box_sizes"]
            unsaid.append("boxes")
        if self.views is None:
            del body["views"]
            unsaid.append("study")
        body["cases"] = [{n: v for n, v in c.items() if n not in unsaid} for c in body["cases"]]
        return body

    @property
    def measured(self) -> tuple[str, ...]:
        """What the figures of a segmentation are of: its regions, or else its classes."""
        return tuple(name for name, _ in self.regions) or self.classes

    @property
    def of_pictures(self) -> bool:
        """Whether prepared images are flat."""
        return self.shape[0] == 1

    @property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the cross-validation folds."""
        return tuple(sorted({case.fold for case in self.on("train")}))

    def on(self, side: str) -> tuple[JobCase, ...]:
        """Cases of one side, in the order of the job."""
        return tuple(case for case in self.cases if case.side == side)

    @property
    def unit_word(self) -> str:
        """What is judged, in a word."""
        return "cases" if self.views is None else "studies"

    def units(self, side: str) -> tuple[str, ...]:
        """What is judged of one side, cases or studies, in the order of the job."""
        return tuple(dict.fromkeys(case.unit for case in self.on(side)))

    def candidate(self, name: str) -> Candidate:
        """Return one candidate's config."""
        (body,) = (body for body in self.candidates if body["name"] == name)
        kind = _KINDS.get(body["kind"], TabularCandidate)
        return kind.model_validate(dict(body))

    def without(self, fold: int | None) -> "TrainingJob":
        """Return the job with a fold left out of its training side."""
        kept = tuple(c for c in self.cases if fold is None or c.fold != fold or c.side != "train")
        return replace(self, cases=kept)

    def plan(self, candidate: NetworkCandidate) -> NetworkPlan:
        """Make a network candidate definite for this job's images."""
        background = self.task == "segmentation"
        return plan_network(
            candidate,
            task=self.task,
            shape=self.shape,
            n_classes=len(self.regions) or len(self.classes) + background,
            spacing=self.spacing,
            n_cases=len(self.on("train")),
            box_sizes=self.box_sizes,
            regions=values_of(self.regions),
            **channels_of(self.recipe),
        )

    def save(self, folder: Path) -> Path:
        """Write the job into its own folder below ``folder`` and return that."""
        place = folder / self.key
        place.mkdir(parents=True, exist_ok=True)
        beside = place / f".{JOB_FILE}"
        beside.write_text(json.dumps(self._body()))
        beside.replace(place / JOB_FILE)
        return place


def load_job(place: Path) -> TrainingJob:
    """Read the job of a training's folder."""
    body = json.loads((place / JOB_FILE).read_text())
    for name in ("classes", "candidates", "shape", "spacing", "leave_out"):
        body[name] = tuple(body[name])
    body["box_sizes"] = _tuples(body.get("box_sizes", ()))
    body["cases"] = tuple(
        JobCase(**{**case, "boxes": _tuples(case.get("boxes", ()))}) for case in body["cases"]
    )
    body["regions"] = tuple((name, tuple(values)) for name, values in body.get("regions", ()))
    return TrainingJob(**body)


def channels_of(recipe: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what planning a network has to know of the channels of prepared images."""
    if not recipe or not recipe.get("channels"):
        return {}
    chosen = ChannelSet.from_dict(recipe["channels"])
    droppable = [chosen.names.index(name) for name in chosen.optional]
    return {"in_channels": len(chosen.names), "droppable": droppable}


def frame(job: TrainingJob, candidate: TabularCandidate, cases: Sequence[JobCase]) -> Any:
    """Return the candidate's table: header fields, what was measured, or the row's own columns."""
    from tasks.learn.tabular import table_frame

    facts = [case.facts for case in cases]
    if candidate.kind == "header":
        return header_frame(facts)
    if job.recipe is not None:
        return table_frame([case.features for case in cases], candidate.features)
    return table_frame(facts, candidate.features, job.leave_out)


def typical_image(
    store_root: str, cases: Sequence[JobCase]
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Return the median shape (z, y, x) and spacing (mm) of prepared images."""
    from tasks.learn.dataset import spacing_of
    from tasks.store.read import open_part

    shapes, spacings, opened = [], [], {}
    for case in cases:
        if case.part_path not in opened:
            opened[case.part_path] = open_part(store_root, case.part_path, case.part_digest)
        part = opened[case.part_path]
        shapes.append(part.shape(case.case_id))
        spacings.append(spacing_of(part.info(case.case_id).affine))
    shape = np.ceil(np.median(shapes, axis=0)).astype(int)
    return tuple(shape.tolist()), tuple(np.round(np.median(spacings, axis=0), 4).tolist())


def axes_of(store_root: str, cases: Sequence[JobCase]) -> dict[str, str]:
    """Return case id -> where the indices (z, y, x) of its prepared image rise to.

    Images that do not lie in the patient, and cases without one, are left out.
    """
    from tasks.archive.volume import IMAGE_PLANE
    from tasks.imaging.reorient import orientation_of
    from tasks.store.read import open_part

    found, opened = {}, {}
    for case in cases:
        if not case.part_path:
            continue
        if case.part_path not in opened:
            opened[case.part_path] = open_part(store_root, case.part_path, case.part_digest)
        info = opened[case.part_path].info(case.case_id)
        if info.certificate.get("orientation") != IMAGE_PLANE:
            found[case.case_id] = orientation_of(info.affine)
    return found


def training_cases(cases: Sequence[JobCase]) -> list[Any]:
    """Return the cases as the network's data set wants them."""
    from tasks.learn.dataset import TrainingCase

    return [
        TrainingCase(
            c.case_id,
            c.patient_key,
            c.part_path,
            c.target,
            c.label_part_path,
            c.part_digest,
            c.label_part_digest,
            c.boxes,
        )
        for c in cases
    ]


def _tuples(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in rows)
