"""An answer as DICOM Structured Report: TID 1500, one measurement group a finding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.codedict import Code

from tasks.archive.standin import StandIns
from tasks.serve.dicom_out import (
    LONGEST_TEXT,
    MAKER,
    Maker,
    coded,
    common_arguments,
    foreground,
)
from tasks.serve.results import FLAG_TEXTS, PREDICTED, PredictionRow

DEVICE = Code("121007", "DCM", "Device")
PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
VOLUME = Code("118565006", "SCT", "Volume")
MILLILITRE = Code("mL", "UCUM", "milliliter")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
NO_UNITS = Code("1", "UCUM", "no units")
STATUS = Code("121071", "DCM", "Finding")

SIGNIFICANT = 6
"""Digits of a number: more than a model is worth, and they fit into a decimal string."""


def report(
    row: PredictionRow, images: StandIns, maker: Maker, segments: Dataset | None
) -> ComprehensiveSR | None:
    """Return what a model says of a case; None when it failed and there is nothing to say.

    Parameters
    ----------
    row : PredictionRow
    images : StandIns
    maker : Maker
    segments : Dataset, optional
        The segmentation whose segments the volumes belong to.
    """
    if maker.model.task == "detection":
        findings = _boxes(row, images, maker)
    elif maker.model.task == "regression":
        findings = [_estimate(row, images, maker)] if row.measures else []
    else:
        findings = _volumes(row, images, maker, segments) if row.measures else []
    if row.label is not None:
        findings.append(_answer(row, images, maker))
    if not findings:
        return None
    observer = DeviceObserverIdentifyingAttributes(
        uid=maker.uid("", "device"),
        name=maker.algorithm,
        manufacturer_name=MAKER,
        model_name=maker.model.name,
        serial_number=maker.model.digest,
    )
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(DEVICE, observer)
        ),
        procedure_reported=PROCEDURE,
        imaging_measurements=findings,
    )
    arguments = common_arguments(maker, row.case_id, "sr")
    evidence = [*images.datasets, *([] if segments is None else [segments])]
    made = ComprehensiveSR(evidence=evidence, content=content[0], is_complete=True, **arguments)
    if not images.referable:
        # The stand-in lends its identity; there is no image to point to.
        del made.CurrentRequestedProcedureEvidenceSequence
    return made


def _volumes(
    row: PredictionRow, images: StandIns, maker: Maker, segments: Dataset | None
) -> list[MeasurementsAndQualitativeEvaluations]:
    found = []
    # Regions are unions of classes and have no segment of their own.
    numbers = {name: number for number, name in foreground(maker.model.classes)}
    for measure, value in row.measures.items():
        name = measure.removesuffix(" ml")
        number = numbers.get(name)
        told = {
            "tracking_identifier": TrackingIdentifier(
                uid=maker.uid(row.case_id, f"class {name}"),
                identifier=f"{row.case_id} {name}"[:LONGEST_TEXT],
            ),
            "finding_type": coded(name),
            "algorithm_id": _algorithm(maker),
            "measurements": [Measurement(name=VOLUME, value=_number(value), unit=MILLILITRE)],
            "qualitative_evaluations": _flags(row),
        }
        if segments is None or number is None:
            found.append(
                MeasurementsAndQualitativeEvaluations(source_images=_sources(images), **told)
            )
            continue
        segment = ReferencedSegment(
            sop_class_uid=segments.SOPClassUID,
            sop_instance_uid=segments.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(images.datasets[0].SeriesInstanceUID),
        )
        found.append(
            VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **told)
        )
    return found


def _boxes(
    row: PredictionRow, images: StandIns, maker: Maker
) -> list[MeasurementsAndQualitativeEvaluations]:
    """Return a group of the case, so that none found is told too, and one for each shown finding.

    A finding is a closed line on the image its middle lies in; where images are no slices of
    their own it is told in numbers alone.
    """
    found = [_case(row, images, maker)] if row.status == PREDICTED else []
    for one in row.findings:
        if not one["shown"]:
            continue
        name = f"finding {one['number']}"
        lengths = {"Longest side of the box": one["longest_mm"]} | {
            f"Centre {axis}, LPS": one[f"centre_{axis}_mm"] for axis in "xyz"
        }
        told = {
            "tracking_identifier": TrackingIdentifier(
                uid=maker.uid(row.case_id, name),
                identifier=f"{row.case_id} {name}"[:LONGEST_TEXT],
            ),
            "finding_type": coded(one["class"]),
            "algorithm_id": _algorithm(maker),
            "measurements": [_plain("Score", one["score"])]
            + [
                Measurement(name=coded(what), value=_number(value), unit=MILLIMETRE)
                for what, value in lengths.items()
            ],
            "qualitative_evaluations": _flags(row),
        }
        region = _outline(one, images)
        if region is None:
            made = MeasurementsAndQualitativeEvaluations(source_images=_sources(images), **told)
        else:
            made = PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **told)
        found.append(made)
    return found


def _case(
    row: PredictionRow, images: StandIns, maker: Maker
) -> MeasurementsAndQualitativeEvaluations:
    """Return how many findings a case has and from which score they are shown."""
    numbers = {name: value for name, value in row.measures.items() if name != "longest mm"}
    if maker.model.threshold is not None:
        numbers["Shown from score"] = maker.model.threshold
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=maker.uid(row.case_id, "case"), identifier=row.case_id[:LONGEST_TEXT]
        ),
        finding_type=coded(maker.model.title),
        algorithm_id=_algorithm(maker),
        measurements=[_plain(name, value) for name, value in numbers.items()],
        qualitative_evaluations=_flags(row),
        source_images=_sources(images),
    )


def _estimate(
    row: PredictionRow, images: StandIns, maker: Maker
) -> MeasurementsAndQualitativeEvaluations:
    """Return the number of a regression in its unit."""
    ((name, value),) = row.measures.items()
    unit = maker.model.unit
    name = name.removesuffix(f" ({unit})")
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=maker.uid(row.case_id, "number"), identifier=row.case_id[:LONGEST_TEXT]
        ),
        finding_type=coded(maker.model.title),
        algorithm_id=_algorithm(maker),
        measurements=[
            Measurement(name=coded(name), value=_number(value), unit=Code(unit, "UCUM", unit))
        ],
        qualitative_evaluations=_flags(row),
        source_images=_sources(images),
    )


def _outline(one: Mapping[str, Any], images: StandIns) -> ImageRegion | None:
    """Return the box of a finding on the image of its middle slice; None where there is none."""
    if not images.referable or images.reason or not 0 <= one["slice"] < len(images.datasets):
        return None
    image = images.datasets[one["slice"]]
    # DICOM counts from the corner of the first pixel (PS3.3 C.18.6.1.2), an index from its middle.
    x0, x1 = (min(max(one[name] + 0.5, 0), image.Columns) for name in ("x0", "x1"))
    y0, y1 = (min(max(one[name] + 0.5, 0), image.Rows) for name in ("y0", "y1"))
    return ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]),
        source_image=SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID),
    )


def _plain(name: str, value: float) -> Measurement:
    return Measurement(name=coded(name), value=_number(value), unit=NO_UNITS)


def _answer(
    row: PredictionRow, images: StandIns, maker: Maker
) -> MeasurementsAndQualitativeEvaluations:
    of = f", study of {row.views} images" if row.study else ""
    numbers = {f"Probability of {name}{of}": p for name, p in row.probabilities.items()}
    if row.view_score is not None:
        numbers["This image alone"] = row.view_score
    if maker.model.threshold is not None:
        numbers[f"Operating point for {maker.model.positive}"] = maker.model.threshold
    label = QualitativeEvaluation(coded("Class at the operating point"), coded(str(row.label)))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=maker.uid(row.case_id, "class"), identifier=row.case_id[:LONGEST_TEXT]
        ),
        finding_type=coded(maker.model.title),
        algorithm_id=_algorithm(maker),
        measurements=[
            Measurement(name=coded(name), value=_number(value), unit=NO_UNITS)
            for name, value in numbers.items()
        ],
        qualitative_evaluations=[label, *_flags(row)],
        source_images=_sources(images),
    )


def _flags(row: PredictionRow) -> list[QualitativeEvaluation]:
    """Return what its user must know of the case before he reads the answer."""
    return [
        QualitativeEvaluation(coded("Caution"), coded(FLAG_TEXTS.get(flag, flag)))
        for flag in row.flags
    ]


def _algorithm(maker: Maker) -> AlgorithmIdentification:
    told = [f"{name}: {value}" for name, value in maker.parameters().items()]
    return AlgorithmIdentification(
        name=maker.algorithm, version=maker.model.version, parameters=told, manufacturer=MAKER
    )


def _sources(images: StandIns) -> Sequence[SourceImageForMeasurementGroup] | None:
    if not images.referable:
        return None
    return [
        SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)
        for image in images.datasets
    ]


def _number(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT}g}")
