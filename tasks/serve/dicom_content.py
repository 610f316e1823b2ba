"""What the groups of a structured report have in common: who says it, of what, how sure of it."""

from collections.abc import Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    Measurement,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.sr.codedict import Code

from tasks.archive.standin import StandIns
from tasks.serve.dicom_out import LONGEST_TEXT, MAKER, Maker, coded
from tasks.serve.results import FLAG_TEXTS, PredictionRow

NO_UNITS = Code("1", "UCUM", "no units")
PIXELS = Code("{pixels}", "UCUM", "pixels")

SIGNIFICANT = 6
"""Digits of a number: more than a model is worth, and they fit into a decimal string."""


def tracked(row: PredictionRow, maker: Maker, what: str, name: str = "") -> TrackingIdentifier:
    """Return the identifier of a group, the same when the same model is asked again."""
    text = f"{row.case_id} {name}".strip()
    return TrackingIdentifier(uid=maker.uid(row.case_id, what), identifier=text[:LONGEST_TEXT])


def plain(name: str, value: float) -> Measurement:
    """Return a number without a unit."""
    return Measurement(name=coded(name), value=number(value), unit=NO_UNITS)


def flags(row: PredictionRow) -> list[QualitativeEvaluation]:
    """Return what its user must know of the case before he reads the answer."""
    told = [FLAG_TEXTS.get(flag, flag) for flag in row.flags]
    if row.sizes:
        told.append(f"sizes are {row.sizes}")
    return [QualitativeEvaluation(coded("Caution"), coded(text)) for text in told]


def algorithm(maker: Maker) -> AlgorithmIdentification:
    """Return name, version and parameters of the model."""
    told = [f"{name}: {value}" for name, value in maker.parameters().items()]
    return AlgorithmIdentification(
        name=maker.algorithm, version=maker.model.version, parameters=told, manufacturer=MAKER
    )


def sources(images: StandIns) -> Sequence[SourceImageForMeasurementGroup] | None:
    """Return all images of a case, as far as a result may point to them."""
    if not images.referable:
        return None
    return [
        SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)
        for image in images.seen
    ]


def number(value: float) -> float:
    """Return a number with the digits a report has."""
    return float(f"{value:.{SIGNIFICANT}g}")
