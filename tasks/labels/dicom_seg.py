"""DICOM segmentations (PS3.3 A.51): binary, fractional and label maps, frames in any order."""

import io

import numpy as np

from tasks.archive.elements import quiet
from tasks.errors import BadCase
from tasks.labels.shapes import Masks, Segment

FRACTION = 0.5
"""A voxel that at least this much of a fractional segment fills belongs to it."""


def read_dicom_seg(data: bytes) -> Masks:
    """Read a segmentation on its own grid; empty frames that were left out are background.

    Raises
    ------
    BadCase
        ``not_a_segmentation``: damaged, another object, or without a place in a patient.
        ``uneven_segmentation``: its frames are no even stack.
    """
    import highdicom

    try:
        with quiet():
            seg = highdicom.seg.segread(io.BytesIO(data))
            numbers = list(seg.segment_numbers)
            names = {n: str(seg.get_segment_description(n).segment_label) for n in numbers}
            # A label map keeps its numbers: taken apart, highdicom 0.28 loses those above 255.
            is_map = seg.segmentation_type == highdicom.seg.SegmentationTypeValues.LABELMAP
            volume = seg.get_volume(combine_segments=is_map, segment_numbers=numbers)
            frame = str(volume.frame_of_reference_uid or "")
    except RuntimeError:
        detail = "its frames are no stack of even steps: write it on the grid of its series"
        raise BadCase("uneven_segmentation", detail) from None
    except Exception as error:  # highdicom and pydicom raise many kinds on other and damaged files
        detail = f"no DICOM segmentation of a volume can be read ({type(error).__name__})"
        raise BadCase("not_a_segmentation", detail) from None
    fractional = seg.segmentation_type == highdicom.seg.SegmentationTypeValues.FRACTIONAL
    stacked = volume.array >= FRACTION if fractional else volume.array
    segments = tuple(
        Segment(
            int(n), names[n], stacked == n if is_map else np.ascontiguousarray(stacked[..., k] > 0)
        )
        for k, n in enumerate(numbers)
    )
    return Masks(segments, np.array(volume.affine, float), _series(seg), frame)


def _series(seg) -> str:
    """Return the series it was drawn on (PS3.3 C.12.4), when it names exactly one."""
    listed = seg.get("ReferencedSeriesSequence") or []
    named = {str(item.SeriesInstanceUID) for item in listed if "SeriesInstanceUID" in item}
    return named.pop() if len(named) == 1 else ""
