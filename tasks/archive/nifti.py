"""NIfTI in and out; beside the DICOM writers the only place that knows RAS.

A file keeps its own voxel order: `read_nifti` then `write_nifti` gives back the same grid.
"""

import gzip
import io
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from tasks.archive import geometry
from tasks.archive.grey import exact
from tasks.archive.layouts import mask_values
from tasks.archive.pixel_format import MAX_DECODED_BYTES
from tasks.archive.sources import FileRef, read_bytes
from tasks.errors import BadCase

if TYPE_CHECKING:
    from tasks.archive.volume import Volume

SAME_GRID_MM = 1e-3
"""A mask whose corner voxels lie farther than this from the image's is on another grid."""

SHEAR_TOLERANCE = 1e-3
"""Cosine between two voxel axes beyond which the grid is sheared and not a stack of slices."""

GZIP_LEVEL = 6
"""zlib's own default; the level is fixed so that the same array gives the same bytes."""

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns LPS world coordinates to RAS and back."""

REVERSED = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
"""Turns an index (z, y, x, 1) to NIfTI's (i, j, k, 1) = (x, y, z, 1) and back."""

_MM_PER_UNIT = {"meter": 1000.0, "micron": 1e-3}


def read_nifti(ref: FileRef) -> "Volume":
    """Read a NIfTI-1 or NIfTI-2 volume (.nii or gzipped).

    Returns
    -------
    Volume
        Array (z, y, x) in the file's own voxel order; integers stay integers when the scale is
        trivial; LPS affine.

    Raises
    ------
    BadCase
        ``not_nifti``, ``too_large``, ``needs_4d_grouping``, ``sheared_affine``, ``non_finite``.
    """
    from tasks.archive.volume import Volume

    array, affine, stated = _load(read_bytes(ref))
    certificate = certify_grid(array.shape, affine)
    facts = {
        "rows": array.shape[1],
        "cols": array.shape[2],
        "frames": array.shape[0],
        "spacing": stated,
    }
    return Volume(exact(array), affine, certificate, facts)


def read_mask(ref: FileRef, like: "Volume") -> np.ndarray:
    """Read a label map onto the grid of `like`.

    Another voxel order of the same grid (flipped or exchanged axes) is turned; any other grid is
    refused.  Masks of BraTS until 2021 get the label values of later years.

    Returns
    -------
    array, shape of like.array
        uint8, or uint16 when a label exceeds 255.

    Raises
    ------
    BadCase
        ``mask_grid`` (names the distance and the limit), ``mask_labels``, ``unknown_label`` (its
        name is of another year of BraTS than its values) and those of `read_nifti`.
    """
    renamed = mask_values(ref.member or ref.path)
    return mask_from_bytes(read_bytes(ref), like.array.shape, np.asarray(like.affine), renamed)


def mask_from_bytes(
    data: bytes,
    shape: tuple[int, ...],
    affine: np.ndarray,
    renamed: Mapping[int, int] = MappingProxyType({}),
) -> np.ndarray:
    """Return the label map of a NIfTI file on a grid; as `read_mask`.

    ``renamed`` gives values of the file other numbers.
    """
    array, own, _ = _load(data)
    labels = label_values(array)
    for value, other in renamed.items():
        if (labels == value).any() and (labels == other).any():
            detail = f"by its name {value} stands for {other}, and the mask holds {other} as well"
            raise BadCase("unknown_label", detail)
        labels = np.where(labels == value, labels.dtype.type(other), labels)
    turned = onto_same_grid(labels, own, shape, affine)
    return np.ascontiguousarray(turned)


def write_nifti(path: str | Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write an array (z, y, x) with its LPS index affine as NIfTI-1.

    Parameters
    ----------
    path : path
        Ending in .nii or .nii.gz; written beside and renamed, so a reader never sees half a file.
    array : array, shape (z, y, x)
        bool is written as uint8; 64-bit integers only when they fit 32 bits.
    affine : array, shape (4, 4)

    Notes
    -----
    qform and sform are both set (code 1, scanner); of a sheared grid only the sform, since a
    quaternion cannot hold a shear. The same input gives the same bytes.
    """
    import nibabel

    path = Path(path)
    ras = LPS_RAS @ np.asarray(affine, dtype=np.float64) @ REVERSED
    image = nibabel.Nifti1Image(_storable(array).T, ras)
    image.set_qform(ras, code=0 if _skew(ras) > SHEAR_TOLERANCE else 1)
    image.set_sform(ras, code=1)
    image.header.set_xyzt_units("mm")
    data = image.to_bytes()
    if path.name.endswith(".gz"):
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", GZIP_LEVEL, packed, mtime=0) as stream:
            stream.write(data)
        data = packed.getvalue()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(data)
    beside.replace(path)


def _load(data: bytes) -> tuple[np.ndarray, np.ndarray, str]:
    """Return array (z, y, x), LPS index affine and which header field placed it."""
    import nibabel

    data = _inflate(data)
    kinds = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}
    sizes = (int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big"))
    kind = next((kinds[size] for size in sizes if size in kinds), None)
    if kind is None:
        raise BadCase("not_nifti", "the header is neither NIfTI-1 nor NIfTI-2")
    try:
        image = kind.from_bytes(data)
        voxels = _voxels(image)
    except BadCase:
        raise
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise BadCase("not_nifti", f"cannot be read ({type(error).__name__})") from None
    unit = _MM_PER_UNIT.get(image.header.get_xyzt_units()[0], 1.0)
    affine = LPS_RAS @ np.diag([unit, unit, unit, 1.0]) @ image.affine @ REVERSED
    codes = (int(image.header["sform_code"]), int(image.header["qform_code"]))
    stated = "sform" if codes[0] else "qform" if codes[1] else "pixdim"
    return voxels.transpose(2, 1, 0), affine, stated


def _voxels(image: object) -> np.ndarray:
    """Return (i, j, k) voxels: stored integers when the scale is trivial."""
    shape = image.shape
    if len(shape) > 3 and np.prod(shape[3:]) > 1:
        raise BadCase("needs_4d_grouping", f"a NIfTI of shape {shape} holds several volumes")
    if image.get_data_dtype().kind not in "iuf":
        raise BadCase("not_grey", f"NIfTI values of type {image.get_data_dtype()}")
    proxy = image.dataobj
    slope, intercept = proxy.slope, proxy.inter
    voxels = np.asanyarray(proxy.get_unscaled() if (slope, intercept) == (1, 0) else proxy)
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise BadCase("non_finite", "holds voxels that are not numbers; replace them first")
    return voxels.reshape((*shape, 1, 1)[:3])


def _inflate(data: bytes) -> bytes:
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            plain = stream.read(MAX_DECODED_BYTES + 1)
    except (OSError, EOFError) as error:
        raise BadCase("truncated", "the gzip stream is cut or damaged; send it again") from error
    if len(plain) > MAX_DECODED_BYTES:
        raise BadCase("too_large", f"inflates beyond {MAX_DECODED_BYTES} bytes")
    return plain


def certify_grid(shape: tuple[int, ...], affine: np.ndarray) -> dict:
    """Certify a grid that is even by construction; only its shear can be wrong."""
    spacing = geometry.spacing_of(affine)
    if min(spacing) <= 0 or not np.isfinite(affine).all():
        raise BadCase("invalid_geometry", f"voxel sizes {spacing} mm must all be > 0")
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    skew = _skew(affine)
    if skew > SHEAR_TOLERANCE:
        raise BadCase("sheared_affine", f"voxel axes miss a right angle by {skew:.4f}")
    return geometry.Certificate(
        n_frames=shape[0],
        orientation=geometry.plane_of(np.cross(axes[:, 2], axes[:, 1])),
        spacing=spacing,
        jitter_mm=0.0,
        gaps=(),
        duplicates=0,
        tilt_deg=0.0,
        verdict="accept",
        reason="single_slice" if shape[0] == 1 else "",
    ).to_dict()


def _skew(affine: np.ndarray) -> float:
    """Return the largest cosine between two voxel axes."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def label_values(array: np.ndarray) -> np.ndarray:
    """Return label values as uint8 or uint16.

    Raises
    ------
    BadCase
        ``mask_labels``: they are no whole numbers, or too many.
    """
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise BadCase("mask_labels", "labels must be whole numbers")
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise BadCase("mask_labels", f"labels from {low} to {high}; 0 to 65535 can be kept")
    return array.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)


def onto_same_grid(
    labels: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], target: np.ndarray
) -> np.ndarray:
    """Turn labels to the voxel order of the target grid, when it is the same grid.

    Raises
    ------
    BadCase
        ``mask_grid``: it is another one.
    """
    mapping = np.linalg.solve(affine, target)  # index of the target to index of the mask
    axes = np.rint(mapping[:3, :3]).astype(int)
    is_turn = np.all(np.abs(axes).sum(axis=0) == 1) and np.all(np.abs(axes).sum(axis=1) == 1)
    if not is_turn or tuple(np.abs(axes).T @ labels.shape) != tuple(shape):
        sizes = [np.linalg.norm(one[:3, :3], axis=0).round(3).tolist() for one in (affine, target)]
        raise BadCase(
            "mask_grid",
            f"mask of shape {labels.shape} on another grid than {tuple(shape)}, voxels of "
            f"{sizes[0]} mm where the image has {sizes[1]}",
        )
    source = np.abs(axes).argmax(axis=0)
    flips = [axes[source[k], k] < 0 for k in range(3)]
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for k in range(3):
        turn[source[k], k] = -1 if flips[k] else 1
        turn[source[k], 3] = labels.shape[source[k]] - 1 if flips[k] else 0
    corners = np.array([[*c, 1] for c in itertools.product(*[(0, n - 1) for n in shape])]).T
    apart = np.linalg.norm(((affine @ turn - target) @ corners)[:3], axis=0).max()
    if apart > SAME_GRID_MM:
        raise BadCase("mask_grid", f"mask lies {apart:.4f} mm off the image, limit {SAME_GRID_MM}")
    turned = labels.transpose(source)
    return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]


def _storable(array: np.ndarray) -> np.ndarray:
    if array.ndim != 3:
        raise ValueError(f"a volume has axes (z, y, x), got shape {array.shape}")
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        info = np.iinfo(np.int32)
        if array.size and not (info.min <= array.min() and array.max() <= info.max):
            raise ValueError("64-bit integers beyond 32 bits cannot be written as NIfTI")
        return array.astype(np.int32)
    return array.astype(np.float32) if array.dtype == np.float16 else array
