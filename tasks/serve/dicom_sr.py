"""An answer as DICOM Structured Report: TID 1500, one measurement group a finding."""

from highdicom.sr import (
    Comprehensive3DSR,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.codedict import Code

from tasks.archive.standin import StandIns
from tasks.serve.dicom_content import PIXELS, algorithm, flags, number, plain, sources, tracked
from tasks.serve.dicom_findings import AREA, SQUARE_MILLIMETRE, finding_groups, in_space
from tasks.serve.dicom_out import MAKER, Maker, coded, common_arguments, foreground
from tasks.serve.results import PredictionRow

DEVICE = Code("121007", "DCM", "Device")
PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
VOLUME = Code("118565006", "SCT", "Volume")
MILLILITRE = Code("mL", "UCUM", "milliliter")
VOXELS = Code("{voxels}", "UCUM", "voxels")
SIZES = {
    "ml": (VOLUME, MILLILITRE),
    "mm2": (AREA, SQUARE_MILLIMETRE),
    "px": (AREA, PIXELS),
    "voxels": (VOLUME, VOXELS),
}
"""What a mask is measured in: of a picture its area; as a count where their size is not known."""


def report(
    row: PredictionRow, images: StandIns, maker: Maker, segments: Dataset | None
) -> ComprehensiveSR | Comprehensive3DSR | None:
    """Return what a model says of a case; None when it failed and there is nothing to say.

    Findings of volumes are told in space, which a Comprehensive 3D SR alone may hold.

    Parameters
    ----------
    row : PredictionRow
    images : StandIns
    maker : Maker
    segments : Dataset, optional
        The segmentation whose segments the volumes or findings belong to.
    """
    if maker.model.task == "detection":
        findings = finding_groups(row, images, maker, segments)
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
    evidence = [*images.seen, *([] if segments is None else [segments])]
    kind = ComprehensiveSR
    if maker.model.task == "detection" and in_space(row, images):
        kind = Comprehensive3DSR
    made = kind(evidence=evidence, content=content[0], is_complete=True, **arguments)
    if not images.referable:
        # The stand-in lends its identity; there is no image to point to.
        del made.CurrentRequestedProcedureEvidenceSequence
    return made


def _volumes(
    row: PredictionRow, images: StandIns, maker: Maker, segments: Dataset | None
) -> list[MeasurementsAndQualitativeEvaluations]:
    found = []
    # Regions are unions of classes and have no segment of their own.
    segment_of = {name: place for place, name in foreground(maker.model.classes)}
    for measure, value in row.measures.items():
        name, _, unit = measure.rpartition(" ")
        quantity, code = SIZES[unit]
        place = segment_of.get(name)
        told = {
            "tracking_identifier": tracked(row, maker, f"class {name}", name),
            "finding_type": coded(name),
            "algorithm_id": algorithm(maker),
            "measurements": [Measurement(name=quantity, value=number(value), unit=code)],
            "qualitative_evaluations": flags(row),
        }
        if segments is None or place is None:
            found.append(
                MeasurementsAndQualitativeEvaluations(source_images=sources(images), **told)
            )
            continue
        segment = ReferencedSegment(
            sop_class_uid=segments.SOPClassUID,
            sop_instance_uid=segments.SOPInstanceUID,
            segment_number=place,
            source_series=SourceSeriesForSegmentation(images.datasets[0].SeriesInstanceUID),
        )
        found.append(
            VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **told)
        )
    return found


def _estimate(
    row: PredictionRow, images: StandIns, maker: Maker
) -> MeasurementsAndQualitativeEvaluations:
    """Return the number of a regression in its unit."""
    ((name, value),) = row.measures.items()
    unit = maker.model.unit
    name = name.removesuffix(f" ({unit})")
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracked(row, maker, "number"),
        finding_type=coded(maker.model.title),
        algorithm_id=algorithm(maker),
        measurements=[
            Measurement(name=coded(name), value=number(value), unit=Code(unit, "UCUM", unit))
        ],
        qualitative_evaluations=flags(row),
        source_images=sources(images),
    )


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
        tracking_identifier=tracked(row, maker, "class"),
        finding_type=coded(maker.model.title),
        algorithm_id=algorithm(maker),
        measurements=[plain(name, value) for name, value in numbers.items()],
        qualitative_evaluations=[label, *flags(row)],
        source_images=sources(images),
    )
