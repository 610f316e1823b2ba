"""What would go wrong with a cohort, said before anything is started."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.cohort.select import Cohort
from tasks.cohort.sexes import sexes_in_words
from tasks.cohort.split import SplitConfig, newest_edition

if TYPE_CHECKING:
    from tasks.archive.commits import Assignment

MIN_PATIENTS_PER_FOLD = 2
"""Patients of a class below which a fold's figures for it mean nothing."""

FEW_TEST_PATIENTS = 20
"""Below this an interval of the test side is wider than any difference worth finding."""

NUMBERS = "a number"
"""Stands for the class in the balance of a regression."""

MASKS = "masks"
"""Stands for the class in the balance of a segmentation."""


@dataclass(frozen=True)
class Problem:
    """One finding: ``error`` stops a training, ``warning`` and ``note`` do not."""

    level: Literal["error", "warning", "note"]
    text: str


@dataclass(frozen=True)
class BalanceRow:
    """Cases and patients of one class on one side; a test side is named with its edition."""

    side: str
    target: str
    cases: int
    patients: int


def class_balance(cohort: Cohort, sides: Mapping[str, "Assignment"]) -> tuple[BalanceRow, ...]:
    """Count classes by side, ordered train, test editions, reserve, undecided."""
    counts: dict[tuple[str, str], list[str]] = {}
    for case in cohort.cases:
        row = sides.get(case.patient_key)
        side = "undecided" if row is None else row.side
        if row is not None and side == "test":
            side = f"test {row.edition}"
        target = NUMBERS if cohort.numbers else cohort.targets.get(case.case_id, MASKS)
        counts.setdefault((side, target), []).append(case.patient_key)
    order = {"train": 0, "test": 1, "reserve": 2, "undecided": 3}
    return tuple(
        BalanceRow(side, target, len(patients), len(set(patients)))
        for (side, target), patients in sorted(
            counts.items(), key=lambda item: (order[item[0][0].split()[0]], item[0])
        )
    )


def explain_problems(
    cohort: Cohort,
    sides: Mapping[str, "Assignment"],
    split: SplitConfig,
    classes: Sequence[str],
    *,
    detectable: Callable[[int], float] | None = None,
    margin: float | None = None,
    foreground: Mapping[str, int] | None = None,
) -> tuple[Problem, ...]:
    """Return what stands in the way of an honest training, gravest first.

    Parameters
    ----------
    cohort : Cohort
    sides : mapping of patient key to Assignment
        What has been decided and what would be, e.g. from `tasks.cohort.official.decide_sides`.
    split : SplitConfig
    classes : sequence of str
        All classes of a classification; empty for a segmentation.
    detectable : callable, optional
        Number of test patients -> smallest difference of the primary metric that the gate finds
        with its usual power.
    margin : float, optional
        The gate's margin, to compare that difference with.
    foreground : mapping of case_id to foreground voxels, optional
        Known once masks have been read; 0 is an empty mask.
    """
    found = [*_nobody(cohort), *_labels(cohort)]
    if cohort.cases:
        found += _classes(cohort, sides, split, classes)
        found += _folds(cohort, sides, split)
        found += _masks(cohort, foreground or {})
        found += _sexes(cohort)
        found += _power(cohort, sides, detectable, margin)
    order = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(found, key=lambda problem: order[problem.level]))


def _nobody(cohort: Cohort) -> list[Problem]:
    if cohort.cases:
        return []
    left = "; ".join(f"{text}: {count}" for text, count in cohort.funnel)
    return [Problem("error", f"0 labelled cases are left ({left}): change cohort or labels")]


def _labels(cohort: Cohort) -> list[Problem]:
    found = []
    if cohort.unmatched:
        found.append(
            Problem(
                "warning",
                f"{cohort.unmatched} label rows belong to no case of the cohort: check the join "
                "and what has been ingested",
            )
        )
    if cohort.unlabelled:
        n, total = len(cohort.unlabelled), len(cohort.unlabelled) + len(cohort.cases)
        found.append(Problem("note", f"{n} of {total} cases have no usable label and are left out"))
    return found


def _patients_of(cohort: Cohort, sides: Mapping[str, "Assignment"]) -> dict[str, set[str]]:
    """Patients by class, training side only."""
    grouped: dict[str, set[str]] = {}
    for case in cohort.cases:
        row = sides.get(case.patient_key)
        if row is not None and row.side == "train":
            target = cohort.targets.get(case.case_id, MASKS)
            grouped.setdefault(target, set()).add(case.patient_key)
    return grouped


def _classes(
    cohort: Cohort, sides: Mapping[str, "Assignment"], split: SplitConfig, classes: Sequence[str]
) -> list[Problem]:
    training = _patients_of(cohort, sides)
    found = []
    for name in classes:
        patients = training.get(name, set())
        counts = [0] * split.folds
        for patient in patients:
            fold = sides[patient].fold
            if fold is not None and fold < split.folds:
                counts[fold] += 1
        if not patients:
            found.append(Problem("error", f"class {name} has 0 training patients: add some"))
        elif min(counts) < MIN_PATIENTS_PER_FOLD:
            found.append(
                Problem(
                    "error" if min(counts) == 0 else "warning",
                    f"class {name} has {min(counts)} patients in fold {counts.index(min(counts))} "
                    f"and {len(patients)} in all, each fold needs {MIN_PATIENTS_PER_FOLD}: use "
                    "fewer folds or add patients",
                )
            )
        tested = _tested(cohort, sides, name)
        if tested < MIN_PATIENTS_PER_FOLD:
            found.append(
                Problem("error", f"class {name} has {tested} test patients: add some patients")
            )
    return found


def _tested(cohort: Cohort, sides: Mapping[str, "Assignment"], target: str | None = None) -> int:
    """Patients of the newest test edition, of one class or of all."""
    edition = newest_edition(sides)
    return len(
        {
            case.patient_key
            for case in cohort.cases
            if (row := sides.get(case.patient_key)) is not None
            and (row.side, row.edition) == ("test", edition)
            and target in (None, cohort.targets.get(case.case_id))
        }
    )


def _folds(cohort: Cohort, sides: Mapping[str, "Assignment"], split: SplitConfig) -> list[Problem]:
    training = len(set().union(*_patients_of(cohort, sides).values()))
    if split.folds > training:
        return [
            Problem(
                "error",
                f"{split.folds} folds and {training} training patients: at least one fold would be "
                "empty; use fewer folds",
            )
        ]
    return []


def _masks(cohort: Cohort, foreground: Mapping[str, int]) -> list[Problem]:
    empty = sum(foreground.get(case_id, 1) == 0 for case_id in cohort.masks)
    if not empty:
        return []
    text = f"{empty} of {len(cohort.masks)} masks are empty: confirm that nothing is there to find"
    return [Problem("error" if empty == len(cohort.masks) else "warning", text)]


def _sexes(cohort: Cohort) -> list[Problem]:
    text = sexes_in_words(cohort.cases)
    return [Problem("warning", text)] if text else []


def _power(
    cohort: Cohort,
    sides: Mapping[str, "Assignment"],
    detectable: Callable[[int], float] | None,
    margin: float | None,
) -> list[Problem]:
    patients = _tested(cohort, sides)
    if patients < FEW_TEST_PATIENTS:
        return [
            Problem(
                "warning",
                f"the test edition has {patients} patients, below {FEW_TEST_PATIENTS} hardly any "
                "difference can be shown: add patients or enlarge the test share",
            )
        ]
    if detectable is None:
        return []
    smallest = detectable(patients)
    text = f"with {patients} test patients the gate can show a difference of {smallest:.3f}"
    if margin is not None and smallest > margin:
        text += f", more than its margin of {margin:g}: expect undecidable verdicts"
        return [Problem("warning", text)]
    return [Problem("note", text)]
