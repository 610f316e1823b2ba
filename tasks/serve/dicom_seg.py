"""A mask as DICOM Segmentation: binary, one segment a class or finding, on the images' own grid."""

from collections.abc import Sequence

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.sr.codedict import Code

from tasks.archive.standin import StandIns
from tasks.serve.dicom_out import (
    LONGEST_TEXT,
    RESEARCH,
    Maker,
    coded,
    common_arguments,
    foreground,
)
from tasks.serve.results import PredictionRow

CATEGORY = Code("309825002", "SCT", "Spatial and Relational Concept")
"""Of CID 7150 the one that claims neither anatomy nor disease: a scenario's class may be either."""

FAMILY = Code("123109", "DCM", "Artificial Intelligence")
"""CID 7162."""


def why_not(images: StandIns, mask: np.ndarray) -> str:
    """Say why a mask cannot be a segmentation of the images, or nothing."""
    if not images.referable or images.reason:
        return images.reason
    images_of = len(images.frames) or len(images.datasets)
    if images_of != len(mask):
        return f"the mask has {len(mask)} slices and the series {images_of} images"
    first = images.datasets[0]
    if (first.Rows, first.Columns) != mask.shape[1:3]:
        return f"a slice of the mask is {mask.shape[1:3]}, its image {first.Rows, first.Columns}"
    return ""


def segmentation(
    row: PredictionRow, images: StandIns, maker: Maker, mask: np.ndarray
) -> Segmentation:
    """Return a mask as a segmentation of its images.

    Parameters
    ----------
    row : PredictionRow
    images : StandIns
        Image k, or the frame ``images.frames[k]``, is what slice k of the mask lies on.
    maker : Maker
    mask : array of integers, shape (z, y, x), or of bool, shape (z, y, x, s)
        Segment number k is class k of the model; of a detection the finding whose ``segment`` is k:
        findings may overlap, so each has a plane of its own.

    Notes
    -----
    Each frame has the position, orientation and spacing of its image, so a tilted or uneven stack
    is right as it stands. Slices without any class are left out (PS3.3 C.8.20.2).
    """
    algorithm = AlgorithmIdentificationSequence(
        name=maker.algorithm,
        family=FAMILY,
        version=maker.model.version,
        source=maker.model.scenario,
        parameters=maker.parameters(),
    )
    segments = [
        SegmentDescription(
            segment_number=number,
            segment_label=label[:LONGEST_TEXT],
            segmented_property_category=CATEGORY,
            segmented_property_type=coded(name),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=maker.uid(row.case_id, what),
            tracking_id=f"{row.case_id} {label}"[:LONGEST_TEXT],
        )
        for number, name, label, what in _segments(row, maker)
    ]
    made = Segmentation(
        source_images=list(images.datasets),
        pixel_array=np.ascontiguousarray(mask, dtype=np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        content_label="RESEARCH",
        content_description=f"{RESEARCH}: {maker.model.title}"[:LONGEST_TEXT],
        **common_arguments(maker, row.case_id, "seg"),
    )
    if "ImagePositionPatient" not in images.datasets[0]:
        # Type 2C: asked for where no frame has a place, and may be empty.
        made.PatientOrientation = None
    shared = made.SharedFunctionalGroupsSequence[0]
    if "PixelMeasuresSequence" in shared and not len(shared.PixelMeasuresSequence[0]):
        # Of what may have frames highdicom copies the group as it is, also one without a size.
        del shared.PixelMeasuresSequence
    if images.frames:
        _renumber(made, images.frames)
    # highdicom draws it; the same result would differ each time.
    organization = maker.uid(row.case_id, "dimensions")
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return made


def _renumber(made: Segmentation, frames: Sequence[int]) -> None:
    """Let each frame name that of the original file: a stand-in has its slices' alone, in order."""
    for frame in made.PerFrameFunctionalGroupsSequence:
        for derived in frame.DerivationImageSequence:
            for source in derived.SourceImageSequence:
                source.ReferencedFrameNumber = frames[source.ReferencedFrameNumber - 1]


def _segments(row: PredictionRow, maker: Maker) -> list[tuple[int, str, str, str]]:
    """Return number, class, label and what it is tracked by, which a report's group shares."""
    if maker.model.task != "detection":
        return [(k, name, name, f"class {name}") for k, name in foreground(maker.model.classes)]
    return [
        (one["segment"], one["class"], *[f"finding {one['number']}"] * 2)
        for one in row.findings
        if one["segment"]
    ]
