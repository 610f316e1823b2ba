"""A training, written down: what a worker needs to fit one fold of one candidate.

The coordinator writes the job to a folder; a task gets the folder's key, a candidate's name and a
fold. The key is a hash of everything that matters, so a run that was killed finds its folds again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from tasks.cohort.channels import ChannelSet
from tasks.evaluate.config import LEAST_OVERLAP, MaskConfig
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.studies import Views, of_studies
from tasks.hashing import digest_json
from tasks.labels.regions import Regions, values_of
from tasks.learn.box_scores import finding_scores
from tasks.learn.candidate import TabularCandidate, search_score
from tasks.learn.fusion import FusionCandidate
from tasks.learn.header import header_frame
from tasks.learn.plan import NetworkCandidate, NetworkPlan, plan_network
from tasks.learn.weights import find_weights

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
    target: int | None = None
    """Class number, for a classification."""
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
    """Of a segmentation the foreground ones, in the order of their label values."""
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

    @property
    def key(self) -> str:
        """Id of this training."""
        return digest_json(self._body())

    def _body(self) -> dict[str, Any]:
        body = asdict(self)
        # What only some tasks know is not told where it is not said: other jobs keep their keys.
        if not self.regions:
            del body["regions"]
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


@dataclass(frozen=True)
class FoldRecord:
    """What one fold of one candidate gave; small enough to travel between tasks."""

    candidate: str
    fold: int
    case_ids: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    """(n, k) class probabilities, or Dice of each foreground class; empty for a detection."""
    empty: tuple[tuple[int, ...], ...] | None = None
    others: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """Further figures of masks by name, (n, k) each."""
    ood: tuple[float, ...] | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    """Relative to the training's folder."""
    seconds: float = 0.0
    device: str = "cpu"
    resumed: int = 0
    trials: tuple[Mapping[str, Any], ...] = ()
    """Of the search inside this fold, see `tasks.learn.trial.rows`."""
    findings: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """Of each case of a detection: class, score, centre (3) and edges (9) in LPS mm."""
    without: int | None = None
    """A second fold it was not trained on, see `tasks.learn.fusing`."""


def fit_fold(
    place: Path,
    store_root: str,
    name: str,
    fold: int,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    home: Path | None = None,
    without: int | None = None,
) -> FoldRecord:
    """Fit one fold of one candidate, or go on with it where a killed run left it.

    Parameters
    ----------
    place : Path
        Folder of the training.
    store_root : str
    name : str
        The candidate's.
    fold : int
    on_epoch : callable, optional
        Gets each epoch's record of a network.
    home : Path, optional
        Where the file of a candidate's ``weights`` is looked for, see `tasks.learn.weights`.
    without : int, optional
        A second fold to train without, for a fusion that judges it.
    """
    from tasks.learn.trial import read_found, with_params

    job = load_job(place).without(without)
    candidate = job.candidate(name)
    if candidate.kind == "network":
        # Settings that were searched for without the fold that will be judged.
        settled, folder = (fold, "") if without is None else (without, f"-without{without}")
        found: dict[str, Any] = {"params": {}, "trials": ()}
        if candidate.search:
            found = read_found(place, name, settled)
            candidate = with_params(candidate, found["params"])
        out = place / name / f"fold{fold}{folder}"
        record = _fit_network(job, candidate, place, store_root, fold, out, on_epoch, home)
        params = {**found["params"], **record.params}
        record = replace(record, params=params, trials=tuple(found["trials"]))
    elif job.task == "detection":
        record = _fit_places(job, candidate, store_root, fold)
    else:
        record = _fit_table(job, candidate, fold)
    return replace(record, without=without)


def _fit_network(
    job: TrainingJob,
    candidate: NetworkCandidate,
    place: Path,
    store_root: str,
    fold: int,
    out_dir: Path,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    home: Path | None,
) -> FoldRecord:
    from tasks.learn.train import train_fold

    training = job.on("train")
    result = train_fold(
        job.plan(candidate),
        store_root,
        training_cases(training),
        [case.case_id for case in training if case.fold != fold],
        [case.case_id for case in training if case.fold == fold],
        out_dir,
        seed=candidate.seed + job.seed,
        on_epoch=on_epoch,
        masks=None if job.masks is None else MaskConfig.model_validate(dict(job.masks)),
        weights=find_weights(candidate.weights, home or place) if candidate.weights else None,
    )
    values = result.val_probability if job.task == "classification" else result.val_dice
    return FoldRecord(
        candidate=candidate.name,
        fold=fold,
        case_ids=result.val_ids,
        values=_rows(values) or (),
        empty=_rows(result.val_empty),
        others={name: _rows(values) for name, values in result.val_others.items()},
        ood=None if result.val_ood is None else tuple(result.val_ood.tolist()),
        history=result.history,
        params={"best_epoch": result.best_epoch, "batch": result.batch},
        weights=str(Path(result.weights_path).relative_to(place)),
        seconds=result.seconds,
        device=result.device,
        resumed=result.resumed,
        findings=tuple(_rows(one) for one in result.val_findings or ()),
    )


def _fit_places(
    job: TrainingJob, candidate: TabularCandidate, store_root: str, fold: int
) -> FoldRecord:
    from tasks.learn.dataset import StoreCases
    from tasks.learn.place_detector import fold_findings

    training, began = job.on("train"), perf_counter()
    cases = training_cases(training)
    held = tuple(case.case_id for case in training if case.fold == fold)
    source = StoreCases(store_root, cases)
    fitted, rows = fold_findings(candidate, source, cases, held, job.seed, len(job.classes))
    return FoldRecord(
        candidate=candidate.name,
        fold=fold,
        case_ids=held,
        values=(),
        params=dict(fitted.params),
        seconds=perf_counter() - began,
        findings=tuple(_rows(one) for one in rows),
    )


def _fit_table(job: TrainingJob, candidate: TabularCandidate, fold: int) -> FoldRecord:
    from tasks.learn.search import table_rows
    from tasks.learn.tabular import fit_fold as fit_table_fold

    training = job.on("train")
    found = fit_table_fold(
        candidate,
        frame(job, candidate, training),
        np.array([case.target for case in training]),
        np.array([case.patient_key for case in training]),
        np.array([case.fold for case in training]),
        fold,
        job.seed,
        primary=search_score(job.primary),
        n_classes=len(job.classes),
    )
    return FoldRecord(
        candidate=candidate.name,
        fold=fold,
        case_ids=tuple(training[row].case_id for row in found.rows),
        values=_rows(found.probability),
        params=dict(found.params),
        seconds=found.seconds,
        trials=() if found.trials is None else tuple(table_rows(found.trials)),
    )


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


def out_of_fold(
    job: TrainingJob, records: Sequence[FoldRecord]
) -> Predictions | MaskScores | FindingScores:
    """Put a candidate's folds together: each training case judged by a model that never saw it.

    Where studies are judged, the views of each are put together.

    Raises
    ------
    ValueError
        When a training case was not judged exactly once.
    """
    found: dict[str, tuple[FoldRecord, int]] = {}
    for record in records:
        for row, case_id in enumerate(record.case_ids):
            if case_id in found:
                raise ValueError(f"case {case_id[:12]} was judged by two folds")
            found[case_id] = record, row
    cases = job.on("train")
    missing = len({case.case_id for case in cases} - found.keys())
    if missing:
        raise ValueError(f"{missing} of {len(cases)} training cases were judged by no fold")
    places = [found[case.case_id] for case in cases]
    ids = tuple(case.case_id for case in cases)
    patients = tuple(case.patient_key for case in cases)
    if job.task == "detection":
        said = [record.findings[row] for record, row in places]
        truth = {case.case_id: case.boxes for case in cases}
        overlap = LEAST_OVERLAP[2 if job.of_pictures else 3]
        return finding_scores(ids, patients, job.classes, said, truth, overlap)
    values = np.array([record.values[row] for record, row in places])
    if job.task == "segmentation":
        empty = np.array([record.empty[row] for record, row in places])
        names = places[0][0].others
        others = {n: np.array([record.others[n][row] for record, row in places]) for n in names}
        return MaskScores(ids, patients, job.measured, values, empty, others)
    target = np.array([case.target for case in cases])
    found = Predictions(ids, patients, target, values, job.classes, job.positive)
    if job.views is None:
        return found
    return of_studies(found, {case.case_id: case.unit for case in cases}, job.views)


def _tuples(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in rows)


def _rows(values: np.ndarray | None) -> tuple[tuple[Any, ...], ...] | None:
    return None if values is None else tuple(tuple(row) for row in values.tolist())
