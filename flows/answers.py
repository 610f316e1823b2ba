"""A judgement as a row of the results, with its pictures and masks, and as a line of the ledger."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.archive.nifti import write_nifti
from tasks.errors import BadCase
from tasks.evaluate.estimates import quantity_words
from tasks.learn.answer import POSITIVE, called
from tasks.learn.judge import missing_channels
from tasks.learn.judgement import Judgement
from tasks.learn.outlines import class_map
from tasks.serve.findings_picture import findings_png
from tasks.serve.findings_table import finding_rows, measures_of, segments_of
from tasks.serve.ledger import LedgerEntry
from tasks.serve.overlays import overlay_png
from tasks.serve.planes import mask_png
from tasks.serve.registry import ModelVersionInfo
from tasks.serve.result_files import result_file
from tasks.serve.results import (
    AT_DETECTOR,
    HEADER_UNLIKE,
    UNLIKE_TRAINING,
    PredictionRow,
)

if TYPE_CHECKING:
    import numpy as np


def answer_row(
    model: Any, one: Judgement, seen: str | None, strange: tuple[str, ...], body: Any, out: Path
) -> PredictionRow:
    """Return a judgement's row; its pictures and masks are written below ``out``.

    Parameters
    ----------
    model : Model or TabularModel
    one : Judgement
    seen : str or None
        Flag of a patient the model was trained on.
    strange : tuple of str
        Header fields that lie outside those of the training side.
    body : Scenario
    out : Path
        The batch's folder.
    """
    spec = model.spec
    flags = [seen] if seen else []
    flags += [f"without_{name}" for name in missing_channels(spec, one)]
    if one.unlike:
        flags.append(UNLIKE_TRAINING)
    if strange:
        flags.append(HEADER_UNLIKE)
    row = PredictionRow(one.case_id, flags=tuple(flags), novelty=one.distance, header=strange)
    if one.at_detector and (one.mask is not None or one.findings is not None):
        row = replace(row, sizes=AT_DETECTOR)
    if one.mask is not None:
        return _mask_row(row, spec, one, body, out)
    if one.findings is not None:
        return _findings_row(row, spec, one, body, out)
    if one.value is not None:
        overlay = _overlay(model, one, 0, body, out)
        measures = {quantity_words(*spec.classes, spec.unit): one.value}
        return replace(row, measures=measures, overlay=overlay)
    positive = None if spec.positive is None else spec.classes.index(spec.positive)
    shown = int(one.probability.argmax()) if positive is None else positive
    overlay = _overlay(model, one, shown, body, out)
    said = one.answer
    row = replace(
        row,
        label=called(spec, said),
        score=float(said.max() if positive is None else said[positive]),
        probabilities={name: float(p) for name, p in zip(spec.classes, said, strict=True)},
        overlay=overlay,
    )
    if one.study is None:
        return row
    own = one.probability[said.argmax() if positive is None else positive]
    beside = tuple(other for other in one.view_ids if other != one.case_id)
    return replace(row, study=one.study, views=one.views, view_score=float(own), beside=beside)


def _overlay(model: Any, one: Judgement, shown: int, body: Any, out: Path) -> str | None:
    """Draw where the model saw a class, or what raised its number; nothing of a table's row."""
    if one.prepared is None or not body.outputs.overlays:
        return None
    overlay = result_file("overlay", one.case_id)
    draw_overlay(out / overlay, model, one, shown)
    return overlay


def draw_overlay(path: Path, model: Any, one: Judgement, shown: int) -> None:
    """Draw the middle slice, and over it where the model saw a class, or what raised its number."""
    heat = model.heatmap(one.prepared, shown)
    middle = one.shown.shape[0] // 2
    overlay_png(path, one.shown[middle], heat=None if heat is None else heat[middle])


def _mask_row(row: PredictionRow, spec: Any, one: Judgement, body: Any, out: Path) -> PredictionRow:
    import numpy as np

    unit, voxel = _unit_of(one)
    counts = np.bincount(one.mask.ravel(), minlength=len(spec.classes))
    parts = dict(spec.measured) | {name: (i,) for i, name in enumerate(spec.classes) if i}
    sizes = {
        f"{name} {unit}": float(counts[list(values)].sum() * voxel)
        for name, values in parts.items()
    }
    mask, overlay = _kept_mask(row, one.mask, one, body, out), None
    if body.outputs.overlays:
        overlay = result_file("overlay", row.case_id)
        mask_png(out / overlay, one.image, one.mask, one.affine, placed=one.placed)
    return replace(row, measures=sizes, mask=mask, overlay=overlay)


def _unit_of(one: Judgement) -> tuple[str, float]:
    """Return in what a mask is measured, and how much of it a voxel is.

    A picture, or a single slice, has no depth of its own, and so an area and no volume.
    """
    import numpy as np

    axes, flat = one.affine[:3, :3], len(one.mask) == 1
    if not one.sized:
        return "px" if flat else "voxels", 1.0
    if not flat:
        return "ml", float(abs(np.linalg.det(axes)) / 1000)
    return "mm2", float(np.linalg.norm(np.cross(axes[:, 1], axes[:, 2])))


def _kept_mask(
    row: PredictionRow, mask: "np.ndarray", one: Judgement, body: Any, out: Path
) -> str | None:
    if not body.outputs.masks:
        return None
    place = result_file("mask", row.case_id)
    (out / "masks").mkdir(exist_ok=True)
    write_nifti(out / place, mask, one.affine)
    return place


def segments(row: PredictionRow, one: Judgement) -> "np.ndarray | None":
    """Return what of a judgement becomes a DICOM segmentation.

    Returns
    -------
    (z, y, x) classes, (z, y, x, s) the outlines of findings, or None
    """
    return segments_of(one.findings, row.findings) if row.findings else one.mask


def _findings_row(
    row: PredictionRow, spec: Any, one: Judgement, body: Any, out: Path
) -> PredictionRow:
    threshold = spec.thresholds.get(POSITIVE)
    known = {"sized": one.sized, "placed": one.placed}
    found = finding_rows(row.case_id, one.findings, one.affine, spec.classes, threshold, **known)
    shown = one.findings.take(one.findings.score >= (threshold or 0.0))
    measures = measures_of(found, spec.classes, sized=one.sized)
    mask = overlay = outline = None
    if spec.outlines:
        outline = class_map(shown, one.image.shape)
        mask = _kept_mask(row, outline, one, body, out)
        measures |= _areas(found, spec) if one.sized else {}
    if body.outputs.overlays:
        overlay = result_file("overlay", row.case_id)
        seen = one.image, one.affine, shown, spec.classes
        findings_png(out / overlay, *seen, outline=outline, placed=one.placed)
    affine = tuple(map(tuple, one.affine.tolist()))
    return replace(
        row, findings=tuple(found), affine=affine, measures=measures, mask=mask, overlay=overlay
    )


def _areas(found: Sequence[dict[str, Any]], spec: Any) -> dict[str, float]:
    """Return of each class the area of all that is outlined and shown."""
    return {
        f"{name} mm2": sum(row["area_mm2"] or 0.0 for row in found if row["class"] == name)
        for name in spec.classes
    }


def ledger_entry(
    scenario: str,
    champion: ModelVersionInfo,
    model: Any,
    one: Judgement | BadCase,
    row: PredictionRow,
    batch: str,
) -> LedgerEntry:
    """Return what the ledger keeps of an answer, or of a case that had none."""
    outcome: dict[str, Any] = {
        "case_id": row.case_id,
        "status": row.status,
        "flags": list(row.flags),
    }
    if row.reason is not None:
        outcome["reason"] = row.reason
    if row.label is not None:
        outcome |= {"label": row.label, "score": row.score}
    if row.study is not None:
        outcome |= {"study": row.study, "views": row.views, "view_score": row.view_score}
    if row.measures:
        outcome |= dict(row.measures)
    return LedgerEntry(
        input_hash=row.case_id if isinstance(one, BadCase) else one.input_hash,
        scenario=scenario,
        model_name=champion.name,
        model_version=champion.version,
        model_digest=champion.digest,
        thresholds=dict(model.spec.thresholds),
        outcome=outcome,
        batch=batch,
    )
