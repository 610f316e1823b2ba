"""Findings of a detection in a structured report: boxes in space, or on the image of a picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from highdicom.sr import (
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    SourceImageForRegion,
    SourceImageForSegmentation,
    VolumeSurface,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.codedict import Code

from tasks.archive.standin import StandIns
from tasks.serve.dicom_content import PIXELS, algorithm, flags, number, plain, sources, tracked
from tasks.serve.dicom_out import Maker, coded
from tasks.serve.findings_table import longest_px
from tasks.serve.results import PREDICTED, PredictionRow

MILLIMETRE = Code("mm", "UCUM", "millimeter")
AREA = Code("42798000", "SCT", "Area")
SQUARE_MILLIMETRE = Code("mm2", "UCUM", "square millimeter")

CORNERS = ("z0", "y0", "x0", "z1", "y1", "x1")

_QUAD = ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
"""Corners of a face one after the other, closed: 0 is the lower side of an axis, 1 the upper."""


def in_space(row: PredictionRow, images: StandIns) -> bool:
    """Say whether findings are told in the patient: of a volume with a frame of reference.

    A picture, or a single slice, has no depth of its own: there a box lies on the image. Where the
    image does not say how large it is, its findings have no place either.
    """
    volume = max(len(images.datasets), len(images.frames)) > 1 or bool(images.reason)
    placed = "FrameOfReferenceUID" in images.datasets[0]
    known = all(one["centre_x_mm"] is not None for one in row.findings)
    return images.referable and volume and placed and known and row.affine is not None


def finding_groups(
    row: PredictionRow, images: StandIns, maker: Maker, segments: Dataset | None = None
) -> list[MeasurementsAndQualitativeEvaluations]:
    """Return a group of the case, so that none found is told too, and one for each shown finding.

    Of a volume a finding is the surface of its box in the frame of reference (TID 1411), of a
    picture its segment where it is outlined, else the closed line of its box (TID 1410); where
    there is neither it is told in numbers alone.
    """
    found = [_case(row, images, maker)] if row.status == PREDICTED else []
    spatial = in_space(row, images)
    for one in row.findings:
        if not one["shown"]:
            continue
        told = _told(row, one, maker)
        outline = None if spatial else _outline(one, images)
        if spatial:
            made = VolumetricROIMeasurementsAndQualitativeEvaluations(
                referenced_volume_surface=_surface(row, one, images), **told
            )
        elif segments is not None and one["segment"]:
            made = VolumetricROIMeasurementsAndQualitativeEvaluations(
                referenced_segment=_segment(one, images, segments), **told
            )
        elif outline is not None:
            made = PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=outline, **told)
        else:
            made = MeasurementsAndQualitativeEvaluations(source_images=sources(images), **told)
        found.append(made)
    return found


def _told(row: PredictionRow, one: Mapping[str, Any], maker: Maker) -> dict[str, Any]:
    name = f"finding {one['number']}"
    longest = "Longest side of the box"
    lengths = {longest: one["longest_mm"]} | {
        f"Centre {axis}, LPS": one[f"centre_{axis}_mm"] for axis in "xyz"
    }
    known = [(what, value, MILLIMETRE) for what, value in lengths.items() if value is not None]
    if one["longest_mm"] is None:
        known.append((longest, longest_px(one), PIXELS))
    return {
        "tracking_identifier": tracked(row, maker, name, name),
        "finding_type": coded(one["class"]),
        "algorithm_id": algorithm(maker),
        "measurements": [plain("Score", one["score"])]
        + [
            Measurement(name=coded(what), value=number(value), unit=unit)
            for what, value, unit in known
        ]
        + [
            Measurement(name=AREA, value=number(value), unit=SQUARE_MILLIMETRE)
            for value in [one["area_mm2"]]
            if value is not None
        ],
        "qualitative_evaluations": flags(row),
    }


def _case(
    row: PredictionRow, images: StandIns, maker: Maker
) -> MeasurementsAndQualitativeEvaluations:
    """Return how many findings a case has and from which score they are shown."""
    # What has a unit stands in the groups of the findings.
    sized = (" mm", " mm2", " px")
    numbers = {name: value for name, value in row.measures.items() if not name.endswith(sized)}
    if maker.model.threshold is not None:
        numbers["Shown from score"] = maker.model.threshold
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracked(row, maker, "case"),
        finding_type=coded(maker.model.title),
        algorithm_id=algorithm(maker),
        measurements=[plain(name, value) for name, value in numbers.items()],
        qualitative_evaluations=flags(row),
        source_images=sources(images),
    )


def _surface(row: PredictionRow, one: Mapping[str, Any], images: StandIns) -> VolumeSurface:
    """Return the six faces of a box in LPS mm, and the images it passes through."""
    box = np.array([one[name] for name in CORNERS], float).reshape(2, 3)
    return VolumeSurface(
        graphic_type="POLYGON",
        graphic_data=faces(box, np.array(row.affine, float)),
        frame_of_reference_uid=images.datasets[0].FrameOfReferenceUID,
        source_images=[
            SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID)
            for image in _crossed(box, images)
        ],
    )


def faces(box: np.ndarray, affine: np.ndarray) -> list[np.ndarray]:
    """Return the faces of a box as closed lines in the patient.

    Parameters
    ----------
    box : array (2, 3)
        Lowest and highest corner (z, y, x) in index coordinates.
    affine : array (4, 4)
        Index (z, y, x) to LPS mm; the faces of a leaning stack's box are parallelograms.

    Returns
    -------
    list of six arrays (5, 3)
        LPS mm, the last point of each is its first.
    """
    found = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        for side in range(2):
            index = np.empty((len(_QUAD), 3))
            index[:, axis] = box[side, axis]
            for column, other in enumerate(others):
                index[:, other] = [box[corner[column], other] for corner in _QUAD]
            found.append(index @ affine[:3, :3].T + affine[:3, 3])
    return found


def _crossed(box: np.ndarray, images: StandIns) -> tuple[Any, ...]:
    """Return the images a box passes through; all, where slices are not images of their own."""
    if images.reason or images.frames:
        return images.datasets
    last = len(images.datasets) - 1
    first, end = np.clip([np.floor(box[0, 0] + 0.5), np.ceil(box[1, 0] - 0.5)], 0, last).astype(int)
    return images.datasets[first : end + 1]


def _outline(one: Mapping[str, Any], images: StandIns) -> ImageRegion | None:
    """Return the box of a finding on the image of its middle slice; None where there is none."""
    of_files = images.referable and not images.reason and not images.frames
    if not of_files or not 0 <= one["slice"] < len(images.datasets):
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


def _segment(one: Mapping[str, Any], images: StandIns, segments: Dataset) -> ReferencedSegment:
    """Return a finding's segment, and the image it lies on."""
    image = images.datasets[one["slice"]]
    # Not by its frame: that and the segment's number exclude each other (PS3.3 10.3).
    return ReferencedSegment(
        sop_class_uid=segments.SOPClassUID,
        sop_instance_uid=segments.SOPInstanceUID,
        segment_number=one["segment"],
        source_images=[SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID)],
    )
