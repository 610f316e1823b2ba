"""A case's mask from its file, whatever its format, on the grid of the case's volume."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tasks.archive.layouts import is_of_children, mask_values
from tasks.archive.sources import FileRef, read_bytes
from tasks.errors import BadCase
from tasks.labels.boxes import instance_mask, read_written, rows_on
from tasks.labels.named import read_named
from tasks.labels.regions import ENHANCING, Numbers, renumbered
from tasks.labels.shapes import middle_of

if TYPE_CHECKING:
    from tasks.archive.orders import OrderCase
    from tasks.archive.volume import Volume
    from tasks.labels.shapes import Masks

SLICER = ".seg.nrrd"
"""Ends a file of 3D Slicer's segments."""

MOST_VALUES = 255
"""Values of a stored mask beside its background."""


def case_mask(case: "OrderCase", like: "Volume") -> np.ndarray:
    """Read a case's label map onto the grid of its volume, in the numbers that are used here.

    Raises
    ------
    BadCase
        As `read_labels`; ``segments_swapped``: a DICOM segmentation labels the segment of one
        class as another; as `tasks.labels.named_mask.named_mask` where segments are told by name,
        and ``unknown_label`` of a value beyond the classes, as
        `tasks.labels.regions.renumbered`, or where the file's name is of another year than the
        regions.
    """
    if case.named is not None:
        from tasks.labels.named_mask import named_mask

        return named_mask(case.mask, read_named(case.named), like)
    if case.numbers is None:
        return _of_classes(read_labels(case.mask, like, classes=case.classes), case.classes)
    numbered = _in_file(case.classes, case.numbers)
    labels = read_labels(case.mask, like, as_told=False, classes=numbered)
    name = case.mask.member or case.mask.path
    _refuse_other_year(labels, mask_values(name), case.numbers)
    if is_of_children(name) and any(here > ENHANCING for _, here in case.numbers):
        detail = "by its name the mask is of BraTS-PEDs, whose 1 to 4 are other parts than adults'"
        raise BadCase("unknown_label", detail)
    return renumbered(labels, case.numbers)


def _in_file(classes: Sequence[str], numbers: Numbers) -> tuple[str, ...]:
    """Return the classes in the order of their values in the file; "" of values without one."""
    here = dict(numbers)
    named = {value: classes[here[value] - 1] for value in here if 1 <= here[value] <= len(classes)}
    return tuple(named.get(value, "") for value in range(1, max(named, default=0) + 1))


def _of_classes(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Refuse a value that no class names: some would be background, others wrap in a byte."""
    limit = len(classes) or MOST_VALUES
    if labels.size and int(labels.max()) > limit:
        detail = f"the mask holds the value {int(labels.max())}, and values up to {limit} are named"
        raise BadCase("unknown_label", f"{detail}: name a class for each, in their order")
    return labels


def _refuse_other_year(labels: np.ndarray, told: Mapping[int, int], numbers: Numbers) -> None:
    """Refuse a file whose name says another meaning of a value than the scenario's year."""
    for value, other in told.items():
        here = dict(numbers).get(value, other)
        if here != other and (labels == value).any():
            detail = (
                f"by its name the mask is of BraTS until 2021, where {value} is enhancing tumour: "
                "the scenario's regions are of a year in which it is another part"
            )
            raise BadCase("unknown_label", detail)


def has_boxes(case: "OrderCase") -> bool:
    """Tell whether a case is labelled with what is to be found, rather than with a mask."""
    return case.boxes is not None or (
        case.mask is not None and file_name(case.mask).endswith(".xml")
    )


def case_instances(case: "OrderCase", like: "Volume") -> tuple[np.ndarray, np.ndarray]:
    """Draw a case's boxes, or its outlines of LIDC, onto the grid of its volume.

    Returns
    -------
    mask : (z, y, x) uint8
        1 + the number of the box.
    rows : (b, 14) float64
        The boxes in the patient.

    Raises
    ------
    BadCase
        As `tasks.labels.boxes.rows_on` and `tasks.labels.boxes.instance_mask`, and as
        `tasks.labels.lidc_case.lidc_instances`.
    """
    shape, affine = like.array.shape, np.asarray(like.affine)
    if case.boxes is None:
        from tasks.labels.lidc_case import lidc_instances

        return lidc_instances(read_bytes(case.mask), shape, affine)
    boxes = read_written(case.boxes)
    rows = rows_on(boxes, case.classes, shape, affine)
    return instance_mask(boxes, rows, shape, affine), rows


def read_labels(
    ref: FileRef, like: "Volume", *, as_told: bool = True, classes: Sequence[str] = ()
) -> np.ndarray:
    """Read a label map onto the grid of a volume.

    Parameters
    ----------
    ref : FileRef
        NIfTI, NRRD or MetaImage, whose values are the classes', or a DICOM segmentation, whose
        segment numbers are. A segmentation is laid on the grid, a label map must have it.
    like : Volume
    as_told : bool
        Whether a BraTS mask's name tells its values; else they stay as in the file.
    classes : sequence of str
        What the values 1, 2, … mean; the labels of a DICOM segmentation must not say otherwise.

    Raises
    ------
    BadCase
        As `tasks.archive.nifti.read_mask`, `tasks.labels.mask_file.read_mask_file` and
        `tasks.labels.dicom_seg.read_dicom_seg`; ``segments_overlap``; ``segments_swapped``;
        ``mask_grid`` also of a segmentation in another frame of reference, or of which a segment's
        middle is outside.
    """
    name = file_name(ref)
    shape, affine = like.array.shape, np.asarray(like.affine)
    if name.endswith(".dcm"):
        return _segments(read_bytes(ref), like, classes)
    if name.endswith(SLICER):
        raise BadCase("not_a_mask", "segments of 3D Slicer are told by name: use format slicer")
    if name.endswith((".nrrd", ".mha")):
        from tasks.labels.mask_file import read_mask_file

        return read_mask_file(read_bytes(ref), name, shape, affine)
    from tasks.archive.nifti import mask_from_bytes, read_mask

    return read_mask(ref, like) if as_told else mask_from_bytes(read_bytes(ref), shape, affine)


def file_name(ref: FileRef) -> str:
    """Return the name of a file in small letters, whose ending tells its format."""
    return (ref.member or ref.path).lower()


def _segments(data: bytes, like: "Volume", classes: Sequence[str]) -> np.ndarray:
    from tasks.labels.dicom_seg import read_dicom_seg
    from tasks.labels.shapes import label_map, onto_grid

    drawn = read_dicom_seg(data)
    if not drawn.segments:
        raise BadCase("not_a_segmentation", "it holds no segment")
    _refuse_swapped(drawn, classes)
    refuse_elsewhere(drawn, like)
    masks = onto_grid(drawn, like.array.shape, np.asarray(like.affine))
    # By number: names are free text, and two segments may bear one.
    numbered = tuple(replace(one, name=str(one.number)) for one in masks.segments)
    return label_map(replace(masks, segments=numbered), {one.name: one.number for one in numbered})


def _refuse_swapped(drawn: "Masks", classes: Sequence[str]) -> None:
    """Refuse a segment that is labelled as the class of another number: one of both is wrong."""
    from tasks.labels.told_classes import spelled

    known = enumerate(map(spelled, classes), start=1)
    number_of = {name: number for number, name in known if name}
    for one in drawn.segments:
        number = number_of.get(spelled(one.name), one.number)
        if number != one.number:
            raise BadCase(
                "segments_swapped",
                f"segment {one.number} is labelled as the class {classes[number - 1]}, whose "
                f"number is {number}: tell the classes by name with labels.segments",
            )


def refuse_elsewhere(drawn: "Masks", like: "Volume") -> None:
    """Refuse what was drawn on another patient or scan: it would be laid on as background.

    Raises
    ------
    BadCase
        ``mask_grid``: another frame of reference, or a segment's middle is outside of the image.
    """
    if drawn.frame_of_reference and like.frame and drawn.frame_of_reference != like.frame:
        detail = "the segmentation was drawn in another frame of reference than the image's"
        raise BadCase("mask_grid", detail)
    limits = np.array(like.array.shape) - 0.5
    for one in drawn.segments:
        place = middle_of(one, drawn)
        if place is None:
            continue
        index = np.linalg.solve(np.asarray(like.affine, float), [*place, 1.0])[:3]
        if not ((index >= -0.5) & (index <= limits)).all():
            at = ", ".join(f"{value:.1f}" for value in index)
            raise BadCase(
                "mask_grid",
                f"the middle of segment {one.number} is at voxel ({at}) of an image of "
                f"{tuple(map(int, like.array.shape))}",
            )
