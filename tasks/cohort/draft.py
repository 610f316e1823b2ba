"""A first scenario from what the catalog and a label file hold: nobody starts from blank YAML."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tasks.archive.tablefile import join_problem, read_table

if TYPE_CHECKING:
    from tasks.archive.catalog import Case

JOINS = ("accession", "study", "series", "patient")
"""What a column may be joined on, most specific identity of an examination first."""

MAX_CLASSES = 12
"""A column with more different values is no class; its values are not shown either, because they
may identify somebody."""

VOLUMES = ("CT", "MR", "PT")
"""Modalities whose series are volumes."""

ENOUGH_MATCHES = 0.5
"""Share of the best column's matches at which a more specific join is preferred: a label that
belongs to one examination must not be spread over all of a patient's."""

NEGATIVE_WORDS = ("no", "normal", "negative", "benign", "healthy", "absent", "none", "without", "0")
"""Beginnings of class names that mean the finding is not there."""

TARGET_WORDS = ("target", "label", "class", "diagnosis", "finding", "outcome")
"""Names a label column usually has, best first."""


@dataclass(frozen=True)
class ColumnFacts:
    """What is known of a column of a label file; holds no value that may identify anybody."""

    name: str
    filled: int
    distinct: int
    classes: tuple[tuple[str, int], ...]
    """Values and their counts, most frequent first; empty when the column is no class."""
    matches: Mapping[str, int]
    """Join -> how many rows match a case of the catalog."""


@dataclass(frozen=True)
class Draft:
    """A scenario text and what does not match, each in one sentence."""

    text: str
    problems: tuple[str, ...]


def read_columns(path: str | Path) -> dict[str, list[str]]:
    """Read a CSV, TSV or Parquet table as text columns; the values stay in this process."""
    path = Path(path)
    table = read_table(path.read_bytes(), path.name)
    return {
        name: [values[place].strip() for _, values in table.rows]
        for place, name in enumerate(table.columns)
    }


def column_facts(
    columns: Mapping[str, Sequence[str]],
    cases: Iterable["Case"],
    pseudonym: Callable[[str, str], str | None],
) -> tuple[ColumnFacts, ...]:
    """Try every column of a label file on every join.

    Parameters
    ----------
    columns : mapping of name to values
    cases : iterable of Case
    pseudonym : callable (join, value) -> key or None
        The project's pseudonym of a value as the catalog would hold it.
    """
    cases = list(cases)
    known = {join: {getattr(case, f"{join}_key") for case in cases} - {None} for join in JOINS}
    facts = []
    for name, values in columns.items():
        filled = [value for value in values if value]
        matches = {
            join: sum(_key(pseudonym, join, value) in known[join] for value in filled)
            for join in JOINS
            if known[join]
        }
        matches = {join: count for join, count in matches.items() if count}
        counts = Counter(filled)
        looks_like_class = 2 <= len(counts) <= MAX_CLASSES and len(filled) >= 2 * len(counts)
        classes = tuple(counts.most_common()) if looks_like_class and not matches else ()
        facts.append(ColumnFacts(name, len(filled), len(counts), classes, matches))
    return tuple(facts)


def _key(pseudonym: Callable[[str, str], str | None], join: str, value: str) -> str | None:
    if join_problem(join, value):
        return None
    try:
        return pseudonym(join, value)
    except ValueError:  # a placeholder for a patient
        return None


def draft_scenario(
    name: str,
    label_file: str,
    cases: Sequence["Case"],
    columns: Sequence[ColumnFacts],
) -> Draft:
    """Propose a scenario and say what does not match.

    Parameters
    ----------
    name : str
        Of the scenario.
    label_file : str
        The label file as the scenario is to name it, relative to the source.
    cases : sequence of Case
        What the catalog holds; rows of tables are proposed as they are, without a join.
    columns : sequence of ColumnFacts
        See `column_facts`.
    """
    kinds = Counter(case.kind for case in cases if case.kind != "row")
    kind = kinds.most_common(1)[0][0] if kinds else "dicom"
    images = [case for case in cases if case.kind == kind]
    problems = [] if images else ["the catalog holds 0 images: ingest an archive first"]
    column, join = _best_join(columns, problems)
    target, classes = _best_target(columns, problems)
    modalities = Counter(
        str(case.facts["modality"]) for case in images if case.facts.get("modality")
    )
    modality = modalities.most_common(1)[0][0] if modalities else None
    volume = kind in ("nifti", "nrrd", "mha") or modality in VOLUMES
    matched = next((facts.matches[join] for facts in columns if facts.name == column), 0)
    rows = next((facts.filled for facts in columns if facts.name == column), 0)
    if column and matched < rows:
        problems.append(
            f"{rows - matched} of {rows} values of column {column} match no {join} of the "
            "catalog: ingest the rest, or check how the values are written"
        )
    counts = ", ".join(f"{value} {count}" for value, count in classes) or "none found"
    text = _TEMPLATE.format(
        name=_scalar(name),
        title=_scalar(name.replace("-", " ").capitalize()),
        cohort=_flow({"kind": kind} | ({"modality": list(modalities)} if modalities else {})),
        seen=", ".join(f"{value} {count}" for value, count in modalities.most_common()) or "none",
        file=_scalar(label_file),
        join=join,
        key_column=_scalar(column or "accession_number"),
        join_note=f"{matched} of {rows} values of {column} match" if column else "nothing matches",
        column=_scalar(target or "target"),
        counts=counts,
        classes=_flow([value for value, _ in _ordered(classes)] or ["negative", "positive"]),
        positive=_scalar(_ordered(classes)[-1][0] if classes else "positive"),
        clip=_CLIP.get(modality, _CLIP[None]),
        resize=_flow([32, 96, 96] if volume else [1, 96, 96]),
    )
    return Draft(text, tuple(problems))


def _best_join(columns: Sequence[ColumnFacts], problems: list[str]) -> tuple[str | None, str]:
    """The most specific join that matches well enough, and the column that matches it best."""
    tried = [
        (JOINS.index(join), -count, facts.name, join)
        for facts in columns
        for join, count in facts.matches.items()
    ]
    if not tried:
        names = ", ".join(facts.name for facts in columns)
        problems.append(
            f"none of the columns {names} holds an accession number, study, series or patient of "
            "the catalog: ingest the archive the labels speak about"
        )
        return None, "accession"
    enough = ENOUGH_MATCHES * max(-count for _, count, _, _ in tried)
    _, _, column, join = min(one for one in tried if -one[1] >= enough)
    return column, join


def _best_target(
    columns: Sequence[ColumnFacts], problems: list[str]
) -> tuple[str | None, tuple[tuple[str, int], ...]]:
    """The column most like a label: by its name, then the one with fewest classes."""
    able = [facts for facts in columns if facts.classes]
    if not able:
        problems.append(
            f"no column has 2 to {MAX_CLASSES} values that repeat: name the label column and its "
            "classes"
        )
        return None, ()

    def order(facts: ColumnFacts) -> tuple[int, int]:
        near = difflib.get_close_matches(facts.name.lower(), TARGET_WORDS, 1, 0.8)
        return TARGET_WORDS.index(near[0]) if near else len(TARGET_WORDS), facts.distinct

    best = min(able, key=order)
    return best.name, best.classes


def _ordered(classes: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Classes with the negative ones first, so that the last is a guess at the positive one."""
    return sorted(classes, key=lambda item: not item[0].lower().startswith(NEGATIVE_WORDS))


def _scalar(value: str) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).splitlines()[0]


def _flow(values: list | dict) -> str:
    return yaml.safe_dump(values, default_flow_style=True, width=1000, sort_keys=False).strip()


_CLIP = {
    None: "{step: percentile_clip, low: 0.5, high: 99.5}",
    "CT": "{step: clip, low: -1000, high: 1000}",
}
"""First step by modality: Hounsfield units are cut at the same values in every patient."""

_TEMPLATE = """\
# A draft: read every line, change what is wrong, then `radloop check` it.
name: {name}
title: {title}
task: classification            # classification | segmentation

# Three sentences a clinician reads first. Nothing here changes what is computed.
intended_use: "Research use only. Say what the model is meant to tell, and to whom."
not_for: "Say what it must not be used for, e.g. diagnosis without a reader."
population: "Say who the patients are: age, site, device, how they were chosen."

# Who is in. The catalog holds: {seen}.
# Add predicates on kept header fields, e.g. where: {{view: [PA, AP], rows: {{min: 512}}}}
# Of series that hold several volumes (echoes, b-values, time points) say which is meant, e.g.
# volume: {{te: 30}}, volume: {{b: {{min: 800, max: 1200}}, take: first}} or volume: last
cohort: {cohort}

# Labels from a table beside the images. Join: {join_note}.
# Values of the column: {counts}. `positive` is a guess.
labels:
  format: table
  file: {file}
  join: {join}
  key_column: {key_column}
  column: {column}
  classes: {classes}
  positive: {positive}

# What happens to every image, in this order; docs/imaging.md lists the steps, and `radloop check`
# says which of them do not suit the modality (CLAHE on CT, for one). `recipe: NAME` takes one that
# ships: ct-lung, ct-soft-tissue, ct-bone, mr-brain, mr, radiograph, mammogram, ultrasound or, for
# a segmentation, auto: nnU-Net's rules.
recipe:
  - {clip}
  - {{step: pad_square}}
  - {{step: resize, shape: {resize}}}
  - {{step: normalise, method: zscore}}

# Sides are decided once, by patient. `project` ranks patients under this project's secret key.
split: {{source: keyed, test: 0.2, folds: 5, key: project}}

# What is tried. The header-only model shows what the scanner alone gives away.
candidates:
  - {{name: small-cnn, kind: network, network: small_cnn, epochs: 20}}
  - {{name: header-only, kind: header, estimator: logistic}}

# The operating point is chosen on out-of-fold predictions and frozen with the model.
evaluate: {{primary: auroc, operating_point: {{rule: youden}}}}

# A challenger may be worse by less than the margin; where patients are too few, it is refused.
gate: {{margin: 0.02, undecidable: refuse}}

# Retrain when either is reached; `schedule` is a cron line (Sundays at two).
trigger: {{new_labelled_patients: 50, max_age_days: 90}}
schedule: {{retrain: "0 2 * * 0"}}
"""
