"""Splits that others have published: sides and folds read from a column or a file."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tasks.cohort.split import (
    FIRST_EDITION,
    NO_EDITION,
    SplitConfig,
    assign_patients,
    fill_folds,
    patient_strata,
    rank,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tasks.archive.catalog import Case
    from tasks.archive.commits import Assignment
    from tasks.archive.pseudonyms import Pseudonymiser
    from tasks.archive.sources import Source


def decide_sides(
    existing: Mapping[str, "Assignment"],
    patients: Mapping[str, Sequence[Mapping[str, object]]],
    config: SplitConfig,
    key: bytes,
    positive: str | None = None,
    file_values: Mapping[str, Iterable[str]] | None = None,
    tokens: Mapping[str, str] | None = None,
) -> list["Assignment"]:
    """Return the assignments to append, whatever the split's source.

    Parameters
    ----------
    existing : mapping of patient key to Assignment
    patients : mapping of patient key to the facts of each case
        As `tasks.cohort.select.Cohort.patient_facts` gives them, with ``target``.
    config : SplitConfig
    key : bytes
        See `tasks.cohort.split.split_key`.
    positive : str, optional
        The positive class, see `patient_strata`.
    file_values : mapping of patient key to values, optional
        What the file of an official split says; needed for source ``file``.
    tokens : mapping of patient key to text, optional
        See `tasks.cohort.split.assign_patients`.
    """
    strata = patient_strata(patients, config, positive)
    if config.source == "keyed":
        return assign_patients(existing, strata, config, key, tokens)
    if config.source == "column":
        values: Mapping[str, Iterable[str]] = {
            patient: [_text(case[config.column]) for case in cases if case.get(config.column)
                      not in (None, "")]
            for patient, cases in patients.items()
        }  # fmt: skip
    elif file_values is None:
        raise ValueError("split source file needs the values of its file and got none: read it")
    else:
        values = file_values
    return assign_official(existing, strata, values, config, key)


def _text(value: object) -> str:
    # JSON has one kind of number: fold 1 comes back as 1.0.
    return f"{value:g}" if isinstance(value, float) else str(value)


def assign_official(
    existing: Mapping[str, "Assignment"],
    patients: Mapping[str, str],
    values: Mapping[str, Iterable[str]],
    config: SplitConfig,
    key: bytes,
) -> list["Assignment"]:
    """Return the assignments to append for a split that others have published.

    Parameters
    ----------
    existing, patients, key
        As in `assign_patients`.
    values : mapping of patient key to the values of the patient's cases
        Each ``train``, ``test``, or a fold number from 0; ``train`` leaves the fold to the keyed
        ranking.  ``val`` and ``validation`` count as train.

    Raises
    ------
    ValueError
        When patients have no value, an unknown one, or stand on both sides; the message counts
        them and names nobody.
    """
    from tasks.archive.commits import Assignment

    tested = any(row.side == "test" for row in existing.values())
    fresh = sorted(set(patients) - set(existing), key=lambda name: rank(name, key))
    decided = {patient: _official_side(values.get(patient, ()), config.folds) for patient in fresh}
    _refuse_undecided(decided, config)
    training: dict[str, list[str]] = {}
    rows, given = [], dict(existing)
    for patient in fresh:
        side, fold = decided[patient]
        stratum = patients[patient]
        if side == "train" and fold is None:
            training.setdefault(stratum, []).append(patient)
            continue
        if side == "test" and tested:
            side = "reserve"  # an edition that has been looked at never grows
        edition = FIRST_EDITION if side == "test" else NO_EDITION
        given[patient] = Assignment(patient, side, edition, fold, stratum)
        rows.append(given[patient])
    folds = fill_folds(given, training, config.folds, key)
    rows += [
        Assignment(name, "train", NO_EDITION, fold, patients[name]) for name, fold in folds.items()
    ]
    return sorted(rows, key=lambda row: row.patient_key)


def official_values(
    source: "Source",
    config: SplitConfig,
    cases: Sequence["Case"],
    names: "Pseudonymiser",
    catalog: "Engine",
) -> dict[str, list[str]]:
    """Read the file of an official split and find the patient of each row.

    Parameters
    ----------
    source : Source
        Beside which the file stands.
    config : SplitConfig
        Of source ``file``.
    cases : sequence of Case
        The source's cases; rows about others are left aside.
    names : Pseudonymiser
    catalog : Engine

    Returns
    -------
    dict
        patient key -> what the rows about its cases say.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is not there, is no table or lacks a column.
    """
    from tasks.archive.catalog import cases_of_sops
    from tasks.archive.tablefile import read_table
    from tasks.labels.keys import label_key, read_beside
    from tasks.labels.tables import parse_label_table

    table = parse_label_table(
        read_table(*read_beside(source, config.file)),
        config.join,
        config.column,
        key_column=config.key_column,
    )
    issuer = config.issuer or source.alias
    said = []
    for row in table.rows:
        # A row without a usable key or value decides nothing; a patient who is left without a
        # side is counted, and refused, by `assign_official`.
        with suppress(ValueError):
            said.append((label_key(row.key, config.join, issuer, names), row.value))
    by_id = {case.case_id: case for case in cases}
    if config.join == "sop":
        of_sop = cases_of_sops(catalog, [key for key, _ in said])
        owners = {
            sop: {by_id[case_id].patient_key} for sop, case_id in of_sop.items() if case_id in by_id
        }
    else:
        owners = {}
        for case in cases:
            field = "case_id" if config.join == "case" else f"{config.join}_key"
            owners.setdefault(getattr(case, field), set()).add(case.patient_key)
    values: dict[str, list[str]] = {}
    for key, value in said:
        for patient in owners.get(key, ()):
            values.setdefault(patient, []).append(value)
    return values


_TRAIN_WORDS = ("train", "training", "val", "valid", "validation")
_TEST_WORDS = ("test", "testing")


def _official_side(values: Iterable[str], folds: int) -> tuple[str, int | None]:
    """Side and fold, or a word that says why there is none: missing, unknown, both, fold."""
    sides = set()
    for value in values:
        word = str(value).strip().lower()
        if word in _TEST_WORDS:
            sides.add(("test", None))
        elif word in _TRAIN_WORDS:
            sides.add(("train", None))
        elif word.isdecimal():
            sides.add(("train", int(word)) if int(word) < folds else ("fold", None))
        else:
            sides.add(("unknown", None))
    if len(sides) > 1:
        return "both", None
    return sides.pop() if sides else ("missing", None)


def _refuse_undecided(decided: Mapping[str, tuple[str, int | None]], config: SplitConfig) -> None:
    place = f"split {config.source} (column {config.column})"
    reasons = {
        "missing": "have no row in it: add them or leave them out of the cohort",
        "unknown": "have a value that is neither train, test nor a fold number: correct it",
        "both": "have cases on several sides or folds: one patient stands on one side",
        "fold": f"have a fold outside 0..{config.folds - 1}: correct it or set folds",
    }
    for word, sentence in reasons.items():
        count = sum(side == word for side, _ in decided.values())
        if count:
            raise ValueError(f"{place}: {count} of {len(decided)} new patients {sentence}")
