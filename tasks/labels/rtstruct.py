"""DICOM RT structure sets (PS3.3 A.19): closed outlines in mm, filled on the grid of an image.

Outlines of one plane are combined by exclusive or: an outline within another is a hole, and one
within that is filled again, which is also what a keyhole does.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tasks.archive.elements import quiet
from tasks.errors import BadCase
from tasks.labels.shapes import Masks, Segment

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
"""RT Structure Set Storage."""

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Kinds of outlines that enclose something (PS3.3 C.8.8.6.3); both are combined in one way here."""

ON_PLANE_MM = 0.05
"""How far the points of one outline may leave its plane."""

MAX_POINTS = 50_000_000
"""Numbers of all outlines of a file; the largest clinical sets have some millions."""


def read_rtstruct(
    data: bytes,
    shape: tuple[int, int, int],
    affine: np.ndarray,
    only: Callable[[str], bool] | None = None,
) -> Masks:
    """Read a structure set onto the grid of the image it was drawn on.

    Parameters
    ----------
    data : bytes
    shape : tuple
        (z, y, x) of the image.
    affine : array (4, 4)
        Index (z, y, x, 1) to LPS mm; its slices must be the planes of the outlines.
    only : callable of a name to bool, optional
        Structures that are read; the others, such as points of an isocentre, are never looked at.

    Returns
    -------
    Masks
        A segment a structure, also when it has no outline. A pixel belongs to it when its centre
        lies within.

    Raises
    ------
    BadCase
        ``not_a_structure_set``; ``outline_off_plane``: an outline is in no slice of the image, or
        all of a structure's enclose no pixel of it;
        ``outline_open``: the structure is of points or open lines alone. Details count structures
        from 1, as their numbers, and hold no name.
    """
    dataset = _dataset(data)
    listed = {
        int(item.ROINumber): str(item.get("ROIName", ""))
        for item in dataset.StructureSetROISequence
    }
    names = {number: name for number, name in listed.items() if only is None or only(name)}
    inverse = np.linalg.inv(np.asarray(affine, float))
    masks = {number: np.zeros(tuple(shape), bool) for number in names}
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.get("ReferencedROINumber", -1))
        if number not in listed:
            raise BadCase("not_a_structure_set", f"outlines of a structure {number} not listed")
        if number not in names:
            continue
        contours = item.get("ContourSequence") or []
        closed = [one for one in contours if one.get("ContourGeometricType") in CLOSED]
        if contours and not closed:
            detail = f"structure {number} has no closed outline: leave it out of the classes"
            raise BadCase("outline_open", detail)
        planes: dict[int, float] = {}
        # An outline that stands twice is one, and would undo itself.
        outlines = {points.tobytes(): points for points in (_points(one, number) for one in closed)}
        for points in outlines.values():
            _add(masks[number], points, inverse, np.asarray(affine), number, planes)
        if closed and not masks[number].any():
            # It would be taken for one of which nothing is drawn.
            detail = f"the outlines of structure {number} enclose no pixel's centre of the image"
            raise BadCase("outline_off_plane", detail)
    segments = tuple(Segment(number, names[number], masks[number]) for number in sorted(names))
    series, frame = map(_one, _references(dataset))
    return Masks(segments, np.array(affine, float), series, frame)


def is_structure_set(path: Path) -> bool | None:
    """Tell whether a file is a structure set by its first bytes; None of what is no DICOM file."""
    from pydicom.filereader import read_file_meta_info

    try:
        with quiet():
            meta = read_file_meta_info(path)
    except Exception:  # pydicom raises many kinds on what is no DICOM
        return None
    return str(meta.get("MediaStorageSOPClassUID", "")) == SOP_CLASS


def series_of(data: bytes) -> str:
    """Return the one series that a structure set was drawn on.

    Raises
    ------
    ValueError
        It cannot be read, or names no series or several; the message holds no identifier.
    """
    from pydicom import dcmread

    try:
        with quiet():
            asked = ["ReferencedFrameOfReferenceSequence"]
            named, _ = _references(dcmread(io.BytesIO(data), specific_tags=asked))
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise ValueError(
            f"the structure set cannot be read ({type(error).__name__}): export it again"
        ) from None
    if len(named) != 1:
        raise ValueError(
            f"the structure set names {len(named)} series of images, and one is needed: export it "
            "with the series it was drawn on, or its structures as masks"
        )
    return named.pop()


def _dataset(data: bytes):
    from pydicom import dcmread

    try:
        with quiet():
            dataset = dcmread(io.BytesIO(data))
        is_set = dataset.get("Modality") == "RTSTRUCT" and "StructureSetROISequence" in dataset
        points = sum(
            len(contour.get("ContourData") or ())
            for item in dataset.get("ROIContourSequence") or []
            for contour in item.get("ContourSequence") or []
        )
    except Exception as error:  # pydicom raises many kinds on damaged files
        detail = f"no DICOM structure set can be read ({type(error).__name__})"
        raise BadCase("not_a_structure_set", detail) from None
    if not is_set or points > MAX_POINTS:
        raise BadCase("not_a_structure_set", f"another object, or {points} numbers of outlines")
    return dataset


def _points(contour, number: int) -> np.ndarray:
    values = np.asarray(contour.get("ContourData") or [], float)
    if values.size < 9 or values.size % 3 or not np.isfinite(values).all():
        detail = f"an outline of structure {number} is not of three points or more"
        raise BadCase("not_a_structure_set", detail)
    return values.reshape(-1, 3)


def _add(
    mask: np.ndarray,
    points: np.ndarray,
    inverse: np.ndarray,
    affine: np.ndarray,
    number: int,
    planes: dict[int, float],
) -> None:
    """Turn what an outline encloses in its slice; ``planes`` are where outlines lay, by slice."""
    from skimage.draw import polygon

    index = (inverse @ np.c_[points, np.ones(len(points))].T)[:3].T
    thickness = np.linalg.norm(affine[:3, 0])
    slice_at = index[:, 0].mean()
    z = round(slice_at)
    apart = np.abs(index[:, 0] - slice_at).max() * thickness
    # Two planes in one slice would undo each other: they are of finer slices, or of shifted ones.
    between = abs(planes.setdefault(z, slice_at) - slice_at) * thickness
    if max(apart, between) > ON_PLANE_MM or not 0 <= z < mask.shape[0]:
        off = max(apart, abs(slice_at - z) * thickness)
        detail = (
            f"an outline of structure {number} lies {off:.2f} mm off the slices of the image: give "
            "the series it was drawn on"
        )
        raise BadCase("outline_off_plane", detail)
    rows, columns = polygon(index[:, 1], index[:, 2], mask.shape[1:])
    mask[z, rows, columns] ^= True


def _references(dataset) -> tuple[set[str], set[str]]:
    """Return the series and the frames of reference that a set names."""
    series, frames = set(), set()
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        frames.add(str(frame.get("FrameOfReferenceUID", "")))
        for study in frame.get("RTReferencedStudySequence") or []:
            for one in study.get("RTReferencedSeriesSequence") or []:
                series.add(str(one.get("SeriesInstanceUID", "")))
    return series - {""}, frames - {""}


def _one(found: set[str]) -> str:
    return next(iter(found)) if len(found) == 1 else ""
