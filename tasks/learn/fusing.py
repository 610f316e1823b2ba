"""A fusion's folds out of its members' folds, without a leak.

To judge fold f, the fusing model learns from what the members say of each other fold g when they
were trained without f *and* without g.  So nothing that judges f was ever fitted on f, at the price
of k (k - 1) more fits of each member.  The usual stacking takes the ordinary folds of the members,
all but one of which were fitted on f; on random labels it finds something (docs/decisions/0024).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tasks.errors import ScenarioError
from tasks.learn.crossval import FoldRecord
from tasks.learn.fusion import FusionCandidate, apply_fusion, fit_fusion
from tasks.learn.job import JobCase, TrainingJob

LEAST_FOLDS = 3
"""One to judge, one to learn the weights on, one to learn the members on."""


def fusions(job: TrainingJob) -> list[FusionCandidate]:
    """Return a job's fusions.

    Raises
    ------
    ScenarioError
        With fewer than `LEAST_FOLDS` folds.
    """
    found = [job.candidate(b["name"]) for b in job.candidates if b["kind"] == "fusion"]
    if found and len(job.folds) < LEAST_FOLDS:
        raise ScenarioError(
            f"{found[0].name}: a fusion needs {LEAST_FOLDS} folds and the split has "
            f"{len(job.folds)}; say folds: 5 under split, or remove the fusion"
        )
    return found


def pairs(job: TrainingJob) -> list[tuple[str, int, int]]:
    """Return (member, fold it judges, fold it is trained without as well) of all fusions."""
    members = dict.fromkeys(name for one in fusions(job) for name in one.members)
    return [(m, g, f) for m in members for g in job.folds for f in job.folds if g != f]


def needed(job: TrainingJob, name: str) -> tuple[Mapping, ...]:
    """Return the candidates a candidate needs, itself last, each from its own seed alone.

    Who trains again asks something else than how far a figure moves with the seed.
    """
    bodies = {body["name"]: body for body in job.candidates}
    wanted = (bodies[one] for one in (*bodies[name].get("members", ()), name))
    return tuple({key: value for key, value in one.items() if key != "seeds"} for one in wanted)


def fuse(
    job: TrainingJob, candidate: FusionCandidate, records: Sequence[FoldRecord]
) -> list[FoldRecord]:
    """Return the folds of a fusion.

    Parameters
    ----------
    job : TrainingJob
    candidate : FusionCandidate
    records : sequence of FoldRecord
        Of the members: their folds and their `pairs`.
    """
    cases = {case.case_id: case for case in job.on("train")}
    by_place = {(r.candidate, r.fold, r.without): r for r in records}
    found = []
    for fold in job.folds:
        learnt = [
            {name: by_place[name, other, fold] for name in candidate.members}
            for other in job.folds
            if other != fold
        ]
        model = fit(job, candidate, learnt)
        own = {name: by_place[name, fold, None] for name in candidate.members}
        ids, said = together(job, candidate, own, cases)
        found.append(
            FoldRecord(
                candidate=candidate.name,
                fold=fold,
                case_ids=ids,
                values=tuple(map(tuple, apply_fusion(model, said).tolist())),
                ood=_distances(own, ids),
                seconds=sum(r.seconds for row in (*learnt, own) for r in row.values()),
                device=next(iter(own.values())).device,
            )
        )
    return found


def fit(
    job: TrainingJob,
    candidate: FusionCandidate,
    folds: Sequence[Mapping[str, FoldRecord]],
) -> dict:
    """Fit the fusing models on folds that each member judged, given by member."""
    cases = {case.case_id: case for case in job.on("train")}
    parts = [together(job, candidate, row, cases) for row in folds]
    target = np.array([cases[c].target for ids, _ in parts for c in ids])
    said = {name: np.concatenate([one[name] for _, one in parts]) for name in candidate.members}
    return fit_fusion(said, target, len(job.classes), candidate.C)


def together(
    job: TrainingJob,
    candidate: FusionCandidate,
    records: Mapping[str, FoldRecord],
    cases: Mapping[str, JobCase],
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return the case ids of a fold and each member's answers (n, k) in their order."""
    ids = tuple(sorted(next(iter(records.values())).case_ids))
    said = {}
    for name in candidate.members:
        values = dict(zip(records[name].case_ids, records[name].values, strict=True))
        said[name] = np.array([values[c] for c in ids], dtype=float)
        missing = [lacks(job, job.candidate(name), cases[c]) for c in ids]
        said[name][missing] = np.nan
    return ids, said


def lacks(job: TrainingJob, member: object, case: JobCase) -> bool:
    """Whether a case has nothing a member could judge by: no image, or only empty cells."""
    if member.kind == "network":
        return case.part_path is None
    row = case.features if job.recipe is not None else case.facts
    left_out = () if job.recipe is not None else job.leave_out
    return is_empty(row, member.features, left_out)


def is_empty(row: Mapping, features: Sequence[str], left_out: Sequence[str] = ()) -> bool:
    """Whether all cells of a row that a table uses are empty."""
    names = features or [name for name in row if name not in left_out]
    return all(row.get(name) in (None, "") for name in names)


def _distances(own: Mapping[str, FoldRecord], ids: Sequence[str]) -> tuple[float, ...] | None:
    """Return how unlike the training cases the first member with images finds each case."""
    record = next((r for r in own.values() if r.ood is not None), None)
    if record is None:
        return None
    by_id = dict(zip(record.case_ids, record.ood, strict=True))
    return tuple(by_id[c] for c in ids)
