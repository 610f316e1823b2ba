"""Masks in files of volumes: NIfTI, NRRD, MetaImage, and the segments of 3D Slicer."""

import re
from dataclasses import replace

import numpy as np

from tasks.archive.grids import MAX_HEADER_BYTES, Grid, affine_of, read_values
from tasks.archive.mapping import KINDS, kind_suffix
from tasks.archive.nifti import label_values, mask_from_bytes, onto_same_grid
from tasks.archive.nrrd import read_header
from tasks.archive.other_formats import header_of
from tasks.errors import BadCase
from tasks.labels.shapes import Masks, Segment

_FIELD = re.compile(rb"^Segment(\d+)_(\w+):=(.*?)\r?$", re.MULTILINE)
_SIZES = re.compile(rb"^sizes:[ \t]*(\d+)", re.MULTILINE)
_DIRECTIONS = re.compile(rb"^space directions:[ \t]*none", re.MULTILINE)


def read_mask_file(
    data: bytes, name: str, shape: tuple[int, int, int], affine: np.ndarray
) -> np.ndarray:
    """Return the label map of a file on the grid of its image.

    Another voxel order of the same grid is turned; any other grid is refused.

    Parameters
    ----------
    data : bytes
    name : str
        Tells the format by its ending: .nii, .nii.gz, .nrrd or .mha.
    shape, affine
        Of the image (z, y, x), LPS mm.

    Returns
    -------
    array, shape (z, y, x)
        uint8, or uint16 when a label exceeds 255.

    Raises
    ------
    BadCase
        ``not_a_mask`` (its ending or values beside it), ``mask_grid``, ``mask_labels``, and those
        of the format.
    """
    kind = KINDS.get(kind_suffix(name))
    if kind == "nifti":
        return mask_from_bytes(data, shape, np.asarray(affine))
    if kind not in ("nrrd", "mha"):
        raise BadCase("not_a_mask", "masks end in .nii, .nii.gz, .nrrd or .mha")
    grid = header_of(kind, data)
    values = label_values(read_values(_whole(grid), data))
    return np.ascontiguousarray(onto_same_grid(values, affine_of(grid), shape, np.asarray(affine)))


def read_slicer(data: bytes) -> Masks:
    """Read the segments of a .seg.nrrd file of 3D Slicer, on its own grid.

    Slicer cuts the file to what is drawn and keeps overlapping segments in layers, the fastest
    axis; `tasks.labels.shapes.onto_grid` puts them on the grid of their image.

    Raises
    ------
    BadCase
        ``not_a_mask``: no segments are described, or one points to a layer that is not there; and
        those of NRRD.
    """
    described: dict[int, dict[str, str]] = {}
    head = data[:MAX_HEADER_BYTES].partition(b"\n\n")[0]
    for number, field, value in _FIELD.findall(head):
        text = value.decode("utf-8", "replace").strip()
        described.setdefault(int(number), {})[field.decode()] = text
    if not described:
        raise BadCase("not_a_mask", "no segments of 3D Slicer are described in the file's header")
    layers = _layers(head)
    # One layer less in the header, of the same length, so that the values begin where they did.
    single = _SIZES.sub(lambda m: m[0][: -len(m[1])] + b"1".ljust(len(m[1])), data, 1)
    grid = _whole(read_header(single if layers > 1 else data))
    (x, *others), shape = grid.sizes, grid.shape
    values = read_values(replace(grid, sizes=(x * layers, *others)), data)
    values = values.reshape(*shape, layers)
    segments = []
    for number, fields in sorted(described.items()):
        try:
            layer, label = int(fields.get("Layer", "0")), int(fields["LabelValue"])
        except (KeyError, ValueError):
            layer, label = -1, 0
        if not 0 <= layer < layers or label < 1:
            detail = f"segment {number} names no layer and label of the file: save it anew"
            raise BadCase("not_a_mask", detail)
        segments.append(
            Segment(
                number, fields.get("Name", ""), np.ascontiguousarray(values[..., layer] == label)
            )
        )
    return Masks(tuple(segments), affine_of(grid))


def _layers(head: bytes) -> int:
    """Return how many layers a file has: its first axis is theirs when it has no direction."""
    if not _DIRECTIONS.search(head):
        return 1
    sizes = _SIZES.search(head)
    return int(sizes[1]) if sizes else 1


def _whole(grid: Grid) -> Grid:
    if grid.data_file is not None:
        raise BadCase("not_a_mask", "its values stand in another file: save it as one")
    return grid
