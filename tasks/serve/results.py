"""What a prediction hands to its user: tables, a page, and which file each case came from."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.serve.findings_table import FINDINGS_CSV, write_findings
from tasks.serve.numbers import show_number
from tasks.serve.pages import page_environment

PREDICTED = "predicted"
FAILED = "failed"

IN_TRAINING = "patient_in_training"
ID_IN_TRAINING = "patient_id_in_training"
UNLIKE_TRAINING = "unlike_training"

HEADER_UNLIKE = "header_unlike_training"

FLAG_TEXTS = {
    IN_TRAINING: "patient was in training",
    ID_IN_TRAINING: "same patient id, from another source, was in training",
    UNLIKE_TRAINING: "unlike anything seen",
    HEADER_UNLIKE: "header unlike training",
}
"""How known flags are shown; another flag is shown by its own name."""

PREDICTIONS_CSV = "predictions.csv"
PREDICTIONS_JSON = "predictions.json"
SOURCES_CSV = "sources.csv"
INDEX_HTML = "index.html"

AT_DETECTOR = "at the detector"
"""Sizes of a radiograph that states its detector's pixels alone: larger than in the patient, by as
much as the beam spreads (PS3.3 10.7.1.3)."""

OF_STUDY = ("study", "views", "view_score")
"""Columns that only stand there where studies are judged."""

SOURCES_MODE = 0o600
"""sources.csv leads back to the user's files and their names may name patients."""


@dataclass(frozen=True)
class PredictionRow:
    """What the model says about one case.

    Parameters
    ----------
    case_id : str
    status : str
        `PREDICTED` or `FAILED`.
    label : str, optional
        The class at the threshold.
    score : float, optional
        Probability of the positive class, or of the label when there is none.
    probabilities : mapping, optional
        class -> probability.
    measures : mapping, optional
        Further numbers by name, such as ``anterior ml`` of a segmentation, or ``age (mo)``, the
        answer of a regression.
    flags : sequence of str
        `IN_TRAINING`, `ID_IN_TRAINING`, `UNLIKE_TRAINING` or others.
    overlay, mask, seg, sr : str, optional
        Path relative to the output folder; seg and sr are DICOM.
    no_dicom : str, optional
        Why its mask, or anything of it, is not there as DICOM.
    reason : str, optional
        Why it failed; holds no identifier.
    novelty : float, optional
        How unlike the training data the input is; 1 is typical of them.
    header : tuple of str
        Header facts that no training case comes near, such as ``manufacturer``.
    study : str, optional
        Where studies are judged, the first case of the study; label, score and probabilities are
        then of the study, ``views`` says of how many cases.
    view_score : float, optional
        What ``score`` is of the study, of this case alone; not calibrated.
    findings : sequence of mapping
        Of a detection, rows of `tasks.serve.findings_table`.
    affine : rows of a (4, 4) matrix, optional
        Of a detection, index (z, y, x) of the findings' corners to LPS mm.
    beside : sequence of str, optional
        Of a study's answer, the case ids of its other views.
    series : sequence of (channel, case id), optional
        Of a case of several DICOM series these, the reference first.
    sizes : str, optional
        What sizes in mm are, where they are not the patient's: `AT_DETECTOR`.
    """

    case_id: str
    status: str = PREDICTED
    label: str | None = None
    score: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    overlay: str | None = None
    mask: str | None = None
    seg: str | None = None
    sr: str | None = None
    no_dicom: str | None = None
    reason: str | None = None
    novelty: float | None = None
    header: tuple[str, ...] = ()
    study: str | None = None
    views: int | None = None
    view_score: float | None = None
    findings: tuple[Mapping[str, Any], ...] = ()
    affine: tuple[tuple[float, ...], ...] | None = None
    beside: tuple[str, ...] = ()
    series: tuple[tuple[str, str], ...] = ()
    sizes: str | None = None


@dataclass(frozen=True)
class ModelFacts:
    """Which model spoke, for the page and the tables."""

    scenario: str
    title: str
    name: str
    version: str
    digest: str
    task: str
    created: str
    threshold: float | None = None
    novelty_limit: float | None = None
    """Novelty above which a case is flagged."""
    positive: str | None = None
    classes: tuple[str, ...] = ()
    unit: str = ""
    """UCUM unit of the one number of a regression."""
    status: str = "research use only"
    synthetic: bool = False
    intended_use: str | None = None
    not_for: str | None = None


@dataclass(frozen=True)
class Written:
    """Paths of what `write_predictions` wrote; ``sources`` is None with ``no_sources``."""

    csv: Path
    json: Path
    index: Path | None
    sources: Path | None


def write_predictions(
    out: str | Path,
    rows: Sequence[PredictionRow],
    model: ModelFacts,
    sources: Iterable[tuple[str, str]] | None = None,
    *,
    page: bool = True,
) -> Written:
    """Write predictions.csv, predictions.json, index.html and, if given, sources.csv.

    Masks and overlays are written before by the caller (`tasks.serve.overlays.overlay_png`); rows
    name them relative to ``out``.

    Parameters
    ----------
    sources : iterable of (case_id, path), optional
        Which of the user's files a case came from; None writes no such file and takes away an old
        one, so that a folder never holds sources nobody asked for.
    page : bool
        Whether to write index.html.

    Raises
    ------
    ValueError
        When a row names a path that is absolute or leaves the folder.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for row in rows:
        _check_paths(row)
    table, document = out / PREDICTIONS_CSV, out / PREDICTIONS_JSON
    index = out / INDEX_HTML if page else None
    _write_csv(table, rows, model)
    if model.task == "detection":
        looked_at = (row for row in rows if row.status == PREDICTED)
        write_findings(out / FINDINGS_CSV, ((row.case_id, row.findings) for row in looked_at))
    body = {"model": _fields(model), "predictions": [_fields(row) for row in rows]}
    document.write_text(json.dumps(body, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if index is not None:
        index.write_text(_render(rows, model, sources is not None), encoding="utf-8")
    return Written(table, document, index, _write_sources(out / SOURCES_CSV, sources))


def _check_paths(row: PredictionRow) -> None:
    for path in (row.overlay, row.mask, row.seg, row.sr):
        pure = PurePosixPath(path or "")
        if pure.is_absolute() or ".." in pure.parts:
            raise ValueError(
                f"The case {row.case_id} names the file {path!r}; give a path inside the output "
                "folder, relative to it."
            )


def _write_csv(path: Path, rows: Sequence[PredictionRow], model: ModelFacts) -> None:
    classes = list(dict.fromkeys([*model.classes, *(c for r in rows for c in r.probabilities)]))
    measures = list(dict.fromkeys(name for row in rows for name in row.measures))
    head = ["case_id", "status", "label", "score", "threshold"]
    of_study = [name for name in OF_STUDY if any(row.study for row in rows)]
    tail = ["flags", "novelty", "novelty_limit", "header", "mask", "seg", "no_dicom", "sr"]
    tail += ["overlay", "reason", "model", "version", "digest"]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*head, *of_study, *(f"p_{name}" for name in classes), *measures, *tail])
        for row in rows:
            writer.writerow(
                [row.case_id, row.status, row.label, row.score, model.threshold]
                + [getattr(row, name) for name in of_study]
                + [row.probabilities.get(name) for name in classes]
                + [row.measures.get(name) for name in measures]
                + [" ".join(row.flags), row.novelty, model.novelty_limit, " ".join(row.header)]
                + [row.mask, row.seg, row.no_dicom, row.sr, row.overlay, row.reason]
                + [model.name, model.version, model.digest]
            )


def _write_sources(path: Path, sources: Iterable[tuple[str, str]] | None) -> Path | None:
    path.unlink(missing_ok=True)
    if sources is None:
        return None
    # The mode is given at birth: a file made first and closed later can be read in between.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SOURCES_MODE)
    with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case_id", "file"])
        writer.writerows(sources)
    return path


def _render(rows: Sequence[PredictionRow], model: ModelFacts, has_sources: bool) -> str:
    environment = page_environment()
    environment.filters["number"] = show_number
    environment.filters["flag"] = lambda name: FLAG_TEXTS.get(name, name.replace("_", " "))
    flags = Counter(flag for row in rows for flag in row.flags)
    return environment.get_template("predictions.html.j2").render(
        rows=rows,
        m=model,
        labels=_labels(rows),
        flags=flags,
        failed=sum(row.status == FAILED for row in rows),
        measures=list(dict.fromkeys(name for row in rows for name in row.measures)),
        has_pictures=any(row.overlay for row in rows),
        has_novelty=any(row.novelty is not None for row in rows),
        has_scores=any(row.score is not None for row in rows),
        has_studies=any(row.study for row in rows),
        studies=len({row.study for row in rows if row.study}),
        has_masks=any(row.mask for row in rows),
        has_dicom=any(row.seg or row.sr for row in rows),
        has_sources=has_sources,
    )


def _labels(rows: Sequence[PredictionRow]) -> Counter:
    """Count results, those of a study once."""
    said = {row.study or row.case_id: row.label for row in rows if row.label is not None}
    return Counter(said.values())


def _fields(record: Any) -> dict[str, Any]:
    return {name: _plain(getattr(record, name)) for name in record.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and value - value != 0:  # NaN and infinity are not JSON
        return None
    return value
