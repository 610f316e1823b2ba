"""What a training is refused for before anything is fitted, and what the report says of it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prefect import flow

from flows.cohorts import Ready
from flows.fitting import current_recipe
from flows.home import Home
from flows.jobs import check_sides, places_of
from flows.policy import task
from flows.runners import runner
from flows.settings import load_settings
from tasks.archive.commits import fitting_cases
from tasks.errors import LeakageError
from tasks.evaluate.equal_rows import equal_rows
from tasks.evaluate.leakage import check_fit, check_study, named
from tasks.evaluate.likeness import SAME, Look, Pair, looks_of_part, pairs_that_look_the_same
from tasks.learn.job import TrainingJob

REMEDY = (
    "Find out whether it is one patient under two ids, and leave a case of each pair out with "
    "`without` under cohort"
)


@dataclass(frozen=True)
class Guarded:
    """What was looked for and not found, and what a person should look at."""

    checks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def plus(self, *checks: str) -> "Guarded":
        """Return it with more checks."""
        return Guarded((*self.checks, *checks), self.warnings)


def guard(home: Home, ready: Ready, job: TrainingJob, address: str) -> Guarded:
    """Look for what stands on two sides of the split, or in two folds.

    Parameters
    ----------
    home : Home
    ready : Ready
    job : TrainingJob
        The very cases that will be trained on and scored.
    address : str
        Of the Dask scheduler, for images nobody has looked at yet.

    Raises
    ------
    LeakageError
        With the cases, when a patient or a study stands on two sides, when an image or a row of a
        table stands on two sides under two patients, or when the recipe was fitted on patients of
        another side.
    """
    check_sides(job)
    counts = " and ".join(f"{len(job.on(side))} {side}" for side in ("train", "test"))
    found = Guarded((f"No patient stands on two sides or in two folds ({counts} cases).",))
    if job.recipe is None:
        return _rows(found, job)
    place = places_of(job)
    studies = check_study([case for case in ready.cohort.cases if case.case_id in place], place)
    fit = _fit(home, ready)
    pairs = pairs_that_look_the_same(
        looks(home, job, address), place, {case.case_id: case.patient_key for case in job.cases}
    )
    _refuse_copies(pairs, place)
    return Guarded(
        (*found.checks, *fit.checks, "No image stands on two sides or in two folds twice."),
        (*studies, *fit.warnings, *_alike(pairs, place)),
    )


def _rows(found: Guarded, job: TrainingJob) -> Guarded:
    """Look for rows of a table that stand on two sides, or in two folds, under two patients."""
    place, columns = places_of(job), seen_columns(job)
    rows = {case.case_id: [case.facts.get(name) for name in columns] for case in job.cases}
    equal = equal_rows(rows, place)
    if equal.copies:
        raise LeakageError(
            f"{len(equal.copies)} pairs of rows stand under two patients on two sides or in two "
            f"folds, the same in all {len(columns)} columns that are learned from, which chance "
            f"does not explain: {_both(equal.copies, place)}. {REMEDY}"
        )
    warnings = [
        f"{len(equal.alike)} pairs of rows of different patients on two sides or in two folds are "
        f"the same in all {len(columns)} columns that are learned from, which may be chance: "
        f"{_both(equal.alike, place)}"
    ]
    said = "No row of the table stands on two sides or in two folds twice"
    if equal.ordinary or equal.alike:
        said += " in more numbers than may be equal by chance"
    if equal.ordinary:
        said += f" ({equal.ordinary} rows are equal to one elsewhere, as is usual in such a table)"
    return Guarded((*found.checks, f"{said}."), tuple(warnings if equal.alike else ()))


def seen_columns(job: TrainingJob) -> list[str]:
    """Return the columns of a table that any candidate learns from."""
    every = {name for case in job.cases for name in case.facts} - set(job.leave_out)
    named = [body.get("features") for body in job.candidates if body["kind"] == "tabular"]
    return sorted({name for names in named for name in names or every} or every)


def _fit(home: Home, ready: Ready) -> Guarded:
    """Hold the cases of the recipe's fit against today's split."""
    name = ready.scenario.name
    known = fitting_cases(home.catalog, current_recipe(home, name)[0])
    if known is None:
        return Guarded(
            warnings=(
                "It is not known on which cases the recipe was fitted: an older radloop kept "
                f"their hash alone; `radloop preprocess {name} --refit` makes it known",
            )
        )
    check_fit(known, {key: row.side for key, row in ready.sides.items()}, name)
    if not known:
        return Guarded(("The recipe learns nothing from images.",))
    return Guarded((f"The recipe was fitted on {len(known)} cases, all of training patients.",))


def _refuse_copies(pairs: Sequence[Pair], place: dict[str, str]) -> None:
    same = [pair for pair in pairs if pair.differs <= SAME]
    if not same:
        return
    exact = sum(pair.identical for pair in same)
    raise LeakageError(
        f"{len(same)} pairs of images stand under two patients on two sides or in two folds, "
        f"{exact} of them with the very same voxels: {_named(same, place)}. {REMEDY}"
    )


def _alike(pairs: Sequence[Pair], place: dict[str, str]) -> list[str]:
    near = [pair for pair in pairs if pair.differs > SAME]
    if not near:
        return []
    return [
        f"{len(near)} pairs of images of different patients on two sides or in two folds look "
        f"alike, which may be chance: {_named(near, place)}"
    ]


def _named(pairs: Iterable[Pair], place: dict[str, str]) -> str:
    return _both([(pair.first, pair.second) for pair in pairs], place)


def _both(pairs: Iterable[tuple[str, str]], place: dict[str, str]) -> str:
    return named(f"{a[:12]} ({place[a]}) and {b[:12]} ({place[b]})" for a, b in pairs)


def _look(path: str, digest: str) -> list[Look]:
    return looks_of_part(load_settings().store_root, path, digest)


look_at_part = task(_look, name="look", retries=1)


def looks(home: Home, job: TrainingJob, address: str) -> list[Look]:
    """Return how the job's images look; a part is read once and then known by its digest."""
    parts = sorted({(case.part_path, case.part_digest) for case in job.cases})
    new = [part for part in parts if not _kept(home, part[1]).exists()]
    if new:
        wave = look_wave.with_options(task_runner=runner(address))
        for (_, digest), found in zip(new, wave(new), strict=True):
            kept = _kept(home, digest)
            kept.parent.mkdir(parents=True, exist_ok=True)
            beside = kept.with_suffix(".new")
            beside.write_text(json.dumps([asdict(look) for look in found]))
            beside.replace(kept)
    return [
        Look(**row) for _, digest in parts for row in json.loads(_kept(home, digest).read_text())
    ]


def _kept(home: Home, digest: str) -> Path:
    return home.settings.home / "looks" / f"{digest}.json"


@flow(name="look-wave", validate_parameters=False, persist_result=False)
def look_wave(parts: list[tuple[str, str]]) -> list[list[Look]]:
    """Look at the images of parts, a part a task."""
    return [future.result() for future in [look_at_part.submit(*part) for part in parts]]
