"""A case's mask from a file of segments that are told by name, on the grid of its volume."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tasks.archive.sources import FileRef, read_bytes
from tasks.errors import BadCase
from tasks.labels.case_mask import SLICER, file_name, refuse_elsewhere
from tasks.labels.named import Named, plain
from tasks.labels.shapes import Masks, onto_grid

if TYPE_CHECKING:
    from tasks.archive.volume import Volume


def named_mask(ref: FileRef, named: Named, like: "Volume") -> np.ndarray:
    """Read a file's segments and lay those of the classes on the grid of a volume.

    Parameters
    ----------
    ref : FileRef
        A structure set, 3D Slicer's ``.seg.nrrd`` or a DICOM segmentation.
    named : Named
    like : Volume

    Returns
    -------
    array, shape (z, y, x)
        uint8; 1 + the place of the class, 0 elsewhere.

    Raises
    ------
    BadCase
        ``mask_grid``: drawn in another frame of reference or place; ``segments_overlap``: voxels
        are of two classes, unless the later one wins; as `tasks.labels.named.Named.choose`; and as
        `tasks.labels.rtstruct.read_rtstruct`, `tasks.labels.mask_file.read_slicer` and
        `tasks.labels.dicom_seg.read_dicom_seg`.
    """
    drawn = _read(ref, named, like)
    chosen = named.choose(drawn.segments)
    used = tuple(one for parts in chosen.values() for one in parts)
    refuse_elsewhere(replace(drawn, segments=used), like)
    if named.form != "rtstruct":  # its outlines were filled on this very grid
        laid = onto_grid(replace(drawn, segments=used), like.array.shape, np.asarray(like.affine))
        used = laid.segments
    by_number = {one.number: one.mask for one in used}
    labels = np.zeros(like.array.shape, np.uint8)
    for value, parts in chosen.items():
        for part in parts:
            there = by_number[part.number]
            shared = int(np.count_nonzero((labels[there] != 0) & (labels[there] != value)))
            if shared and not named.later_wins:
                raise BadCase(
                    "segments_overlap",
                    f"{shared} voxels of segment {part.number} are of an earlier class too: say "
                    "`overlap: later` if they are the later one's, or draw them apart",
                )
            labels[there] = value
    return labels


def _read(ref: FileRef, named: Named, like: "Volume") -> Masks:
    """Read a file as the scenario's format and the file's ending say."""
    name = file_name(ref)
    if named.form == "rtstruct":
        from tasks.labels.rtstruct import read_rtstruct

        shape, affine = like.array.shape, np.asarray(like.affine)
        return read_rtstruct(read_bytes(ref), shape, affine, lambda one: plain(one) in named.names)
    if name.endswith(SLICER):
        from tasks.labels.mask_file import read_slicer

        return read_slicer(read_bytes(ref))
    if name.endswith(".dcm"):
        from tasks.labels.dicom_seg import read_dicom_seg

        return read_dicom_seg(read_bytes(ref))
    raise BadCase(
        "not_a_mask",
        "a label map names no segments: leave labels.segments out, or give DICOM SEG",
    )
