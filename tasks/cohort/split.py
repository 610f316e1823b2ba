"""Which side a patient stands on: append-only, by patient, decided before anything is fitted.

Patients are ranked by a keyed hash within strata and fill quotas.  A patient who has a side keeps
it for ever.  Patients who come later take their turn: where the turn is test they wait in
``reserve``, which nothing is trained on, until a person opens the next test edition.
"""

import hashlib
import hmac
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.hashing import digest_json

if TYPE_CHECKING:  # the catalog brings SQLAlchemy, and this module's config must stay light
    from tasks.archive.commits import Assignment

PUBLIC_SPLIT_KEY = hashlib.sha256(b"radloop public split key, edition 2026").digest()
"""Published on purpose: everybody who splits public data under it gets the same ranking."""

FIRST_EDITION = 1
"""Number of the test edition that the first assignment fills."""

NO_EDITION = 0
"""Edition of patients who are not on the test side: training and reserve."""

JOINED = "+"
"""Joins the values of a patient who has several, e.g. two sites."""

UNKNOWN = "unknown"
"""Stratum of a patient whose field is empty; such patients are balanced among themselves."""


class SplitConfig(BaseModel):
    """How patients are divided into a training side with folds and a test side.

    ``keyed`` ranks patients by a keyed hash; ``column`` reads a kept field or table column and
    ``file`` a table beside the source, both holding ``train``, ``test`` or a fold number. ``join``,
    ``key_column`` and ``issuer`` say whom a row of the file speaks about, as for labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["keyed", "column", "file"] = "keyed"
    test: float = Field(default=0.2, gt=0, lt=1, description="share of patients on the test side")
    folds: int = Field(default=5, ge=2, le=20, description="cross-validation folds")
    key: Literal["public", "project"] = "project"
    strata: tuple[str, ...] = ("target",)
    column: str | None = None
    file: str | None = None
    join: Literal["patient", "accession", "study", "series", "sop", "case"] = "patient"
    key_column: str | None = None
    issuer: str | None = None

    @model_validator(mode="after")
    def _source_has_its_place(self) -> Self:
        if self.source == "column" and not self.column:
            raise ValueError("split source column needs `column`, the field that holds the side")
        if self.source == "file" and not (self.file and self.column):
            raise ValueError("split source file needs `file` and `column`, which holds the side")
        if self.source != "file" and self.file:
            raise ValueError(f"`file` has no meaning for split source {self.source}; remove it")
        return self


def split_id(scenario_name: str, config: SplitConfig) -> str:
    """Return the id of a scenario's assignments; another config is another split."""
    return digest_json({"scenario": scenario_name, "split": config.model_dump(mode="json")})


def split_key(config: SplitConfig, project_key: bytes) -> bytes:
    """Return the ranking key: the published one, or one derived from the project's secret key."""
    if config.key == "public":
        return PUBLIC_SPLIT_KEY
    return hmac.new(project_key, b"split", hashlib.sha256).digest()


def rank(patient_key: str, key: bytes) -> bytes:
    """Return the patient's place in the queue; the same in every scenario under the same key."""
    return hmac.new(key, patient_key.encode(), hashlib.sha256).digest()


def patient_strata(
    patients: Mapping[str, Iterable[Mapping[str, object]]],
    config: SplitConfig,
    positive: str | None = None,
) -> dict[str, str]:
    """Return each patient's stratum from the facts of the patient's cases.

    Parameters
    ----------
    patients : mapping of patient key to one mapping per case
        Each holds the fields named in ``config.strata``; ``target`` is the class name.
    positive : str, optional
        The class looked for.  A patient with one positive case counts as positive, whatever the
        other cases say; otherwise a patient with several values gets the joined set, ``"a+b"``.
    """
    strata = {}
    for patient, cases in patients.items():
        facts = list(cases)
        strata[patient] = "|".join(
            f"{field}={_value_of(field, facts, positive)}" for field in config.strata
        )
    return strata


def _value_of(field: str, facts: Sequence[Mapping[str, object]], positive: str | None) -> str:
    values = {str(case[field]) for case in facts if case.get(field) not in (None, "")}
    if field == "target" and positive in values:
        return str(positive)
    return JOINED.join(sorted(values)) or UNKNOWN


def assign_patients(
    existing: Mapping[str, "Assignment"],
    patients: Mapping[str, str],
    config: SplitConfig,
    key: bytes,
    tokens: Mapping[str, str] | None = None,
) -> list["Assignment"]:
    """Return the assignments to append for patients who have none yet.

    Parameters
    ----------
    existing : mapping of patient key to Assignment
        What has been decided; never changed, also when a patient's stratum changed since.
    patients : mapping of patient key to stratum
        All patients of the cohort, in any order.
    config : SplitConfig
        Share of the test side and number of folds.
    key : bytes
        See `split_key`.
    tokens : mapping of patient key to text, optional
        What is ranked instead of the patient key.  Patient keys differ from project to project, so
        a public split that is to be the same everywhere ranks a digest of the patient's files.

    Returns
    -------
    list of Assignment
        In every stratum, as it was when each patient was assigned, the patients whose turn is test
        (test and reserve together) number the floor or the ceiling of ``test`` times the stratum,
        and all strata together ``test`` times all patients, rounded.  The first call fills test
        edition 1; later test turns go to ``reserve``.
    """
    from tasks.archive.commits import Assignment

    fresh: dict[str, list[str]] = {}
    tokens = tokens or {}

    def place(patient: str) -> tuple[bytes, str]:
        return rank(tokens.get(patient, patient), key), patient

    for patient in sorted(set(patients) - set(existing), key=place):
        fresh.setdefault(patients[patient], []).append(patient)
    turns = _test_turns(existing, {name: len(queue) for name, queue in fresh.items()}, config, key)
    tested = any(row.side == "test" for row in existing.values())
    side, edition = ("reserve", NO_EDITION) if tested else ("test", FIRST_EDITION)
    rows = []
    training: dict[str, list[str]] = {}
    for stratum, queue in fresh.items():
        rows += [
            Assignment(patient, side, edition, None, stratum) for patient in queue[: turns[stratum]]
        ]
        training[stratum] = queue[turns[stratum] :]
    folds = fill_folds(existing, training, config.folds, key)
    for stratum, queue in training.items():
        rows += [
            Assignment(patient, "train", NO_EDITION, folds[patient], stratum) for patient in queue
        ]
    return sorted(rows, key=lambda row: row.patient_key)


def _test_turns(
    existing: Mapping[str, "Assignment"], fresh: Mapping[str, int], config: SplitConfig, key: bytes
) -> dict[str, int]:
    """How many of each stratum's new patients stand on the test side (largest remainders)."""
    taken: dict[str, int] = {}
    size: dict[str, int] = dict(fresh)
    for row in existing.values():
        size[row.stratum] = size.get(row.stratum, 0) + 1
        taken[row.stratum] = taken.get(row.stratum, 0) + (row.side != "train")
    lower, room = {}, {}
    for stratum, new in fresh.items():
        had = taken.get(stratum, 0)
        share = config.test * size[stratum]
        lower[stratum] = min(max(math.floor(share), had), had + new)
        room[stratum] = min(math.ceil(share), had + new) - lower[stratum]
    settled = sum(count for stratum, count in taken.items() if stratum not in fresh)
    wanted = round(config.test * sum(size.values())) - settled - sum(lower.values())
    by_remainder = sorted(
        (stratum for stratum in fresh if room[stratum] > 0),
        key=lambda stratum: (lower[stratum] - config.test * size[stratum], rank(stratum, key)),
    )
    for stratum in by_remainder[: max(wanted, 0)]:
        lower[stratum] += 1
    return {stratum: lower[stratum] - taken.get(stratum, 0) for stratum in fresh}


def fill_folds(
    existing: Mapping[str, "Assignment"],
    training: Mapping[str, Sequence[str]],
    folds: int,
    key: bytes,
) -> dict[str, int]:
    """Give each new training patient the fold with fewest of its stratum, then fewest at all."""
    in_stratum: dict[tuple[str, int], int] = {}
    in_fold = [0] * folds
    for row in existing.values():
        if row.side == "train" and row.fold is not None and row.fold < folds:
            in_stratum[row.stratum, row.fold] = in_stratum.get((row.stratum, row.fold), 0) + 1
            in_fold[row.fold] += 1
    chosen = {}
    for stratum in sorted(training, key=lambda name: rank(name, key)):
        for patient in training[stratum]:
            counts = [(in_stratum.get((stratum, k), 0), in_fold[k], k) for k in range(folds)]
            fold = min(counts)[2]
            in_stratum[stratum, fold] = in_stratum.get((stratum, fold), 0) + 1
            in_fold[fold] += 1
            chosen[patient] = fold
    return chosen


def open_next_edition(existing: Mapping[str, "Assignment"]) -> list["Assignment"]:
    """Return the rows that turn everybody in reserve into the next test edition.

    Earlier editions stay what they were: their patients are never trained on.  Raises ValueError
    when nobody waits.
    """
    from tasks.archive.commits import Assignment

    waiting = sorted(name for name, row in existing.items() if row.side == "reserve")
    if not waiting:
        raise ValueError(
            "the reserve holds 0 patients and a test edition needs at least 1: "
            "ingest more labelled patients before opening an edition"
        )
    edition = 1 + max((row.edition for row in existing.values()), default=NO_EDITION)
    return [Assignment(name, "test", edition, None, existing[name].stratum) for name in waiting]


def newest_edition(assignments: Mapping[str, "Assignment"]) -> int:
    """Return the number of the newest test edition, 0 before the first."""
    return max((row.edition for row in assignments.values()), default=0)
