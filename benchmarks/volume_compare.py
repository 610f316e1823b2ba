"""One volume of radloop beside one of dcm2niix: on which grid, with which values, and who is right.

Like is compared with like. Stacks are compared as they are. dcm2niix neither shows pictures (no
window, no polarity) nor makes greys of colour, so of pictures the values before these steps are
taken: samples as decoded, in real units where the header has a rescale.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames

from tasks.archive.elements import quiet
from tasks.archive.grey import AIR_HU, LUMINANCE, real_units
from tasks.archive.groups import Group
from tasks.archive.volume import Volume

SAME_GRID_MM = 1e-2
"""Corners may differ by this: NIfTI-1 keeps the affine in 32 bits, positions are decimal text."""

FLOAT_TOLERANCE = 1e-5
"""Share of the largest value that a voxel with a broken rescale may differ by: both keep such
values in 32 bits, 24 of them digits. Whole values must be equal."""

LOSSY = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91)}

LOSSY_LUMINANCE = 2.0
"""Grey levels that two decoders of lossy JPEG may differ by in luminance: T.83 lets each inverse
transform be one level off, and T.81 leaves the widening of halved chroma, and so rounding, open."""


@dataclass(frozen=True)
class Agreement:
    """How well values agree: "equal", "float" (rounding of 32 bits) or "lossy", and by how much."""

    kind: str
    apart: float
    padding: int = 0
    """Voxels of declared padding: air here, their stored value there."""


def plain_values(group: Group, volume: Volume) -> list[np.ndarray]:
    """Return what dcm2niix may have written of a volume: each an array (z, y, x) or (z, y, x, 3).

    Of a picture in real units, or as stored: dcm2niix does not apply modality LUTs.
    """
    if not is_picture(volume):
        return [volume.array]
    stored = [frame.source.plane(frame.index) for frame in group.frames]
    if stored[0].ndim == 3 or str(volume.facts["photometric"]) == "PALETTE COLOR":
        return [np.stack(stored)]
    units = [
        real_units(plane, frame.source.dataset)
        for plane, frame in zip(stored, group.frames, strict=True)
    ]
    return [np.stack(units), np.stack(stored)]


def is_picture(volume: Volume) -> bool:
    """Tell whether a volume was shown as a reader sees it, or has no place in the patient."""
    return (
        "voi" in volume.facts
        or "colour" in volume.facts
        or volume.certificate["orientation"] == "image plane"
    )


def turned(array: np.ndarray, affine: np.ndarray, like: Volume) -> list[np.ndarray]:
    """Return the array in the voxel order of `like`: by world space, or every way for a picture."""
    shape = like.array.shape
    if like.certificate["orientation"] == "image plane":
        # Pictures that share a series lie on top of each other there, and are apart here.
        slabs = [array] if array.shape[:3] == shape else []
        if shape[0] == 1 and array.shape[1:3] == shape[1:]:
            slabs = [array[k : k + 1] for k in range(array.shape[0])]
        ways = list(itertools.product((1, -1), repeat=2))
        return [slab[:, ::a, ::b] for slab in slabs for a, b in ways]
    ours = like.affine
    if shape[0] == 1:
        # One slice has no step: its depth is a guess, 1 mm here and the thickness there.
        ours, affine = _unit_depth(ours), _unit_depth(affine)
    mapping = np.linalg.solve(affine, ours)
    axes = np.rint(mapping[:3, :3]).astype(int)
    if not np.array_equal(np.abs(axes).sum(axis=0), [1, 1, 1]) or np.abs(axes).max() > 1:
        return []
    source = np.abs(axes).argmax(axis=0)
    if tuple(array.shape[k] for k in source) != shape:
        return []
    corners = np.array([[*c, 1] for c in itertools.product(*[(0, n - 1) for n in shape])]).T
    index = np.linalg.solve(affine, ours @ corners)
    apart = np.linalg.norm((affine @ (np.rint(index) - index))[:3], axis=0).max()
    inside = np.rint(index[:3]).min() >= 0 and np.all(
        np.rint(index[:3]).max(axis=1) == np.array(array.shape[:3]) - 1
    )
    if apart > SAME_GRID_MM or not inside:
        return []
    flips = tuple(slice(None, None, int(axes[source[k], k])) for k in range(3))
    return [array.transpose(*source, *range(3, array.ndim))[flips]]


def _unit_depth(affine: np.ndarray) -> np.ndarray:
    out = affine.copy()
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    out[:3, 0] = normal / np.linalg.norm(normal)
    return out


def agreement(
    theirs: np.ndarray, ours: np.ndarray, volume: Volume, padding: Sequence[float]
) -> Agreement | None:
    """Compare values on one grid; None when they differ.

    Parameters
    ----------
    theirs, ours : array, shape (z, y, x) or (z, y, x, 3)
    volume : Volume
    padding : sequence of float
        Values in real units that the headers declare as padding, lowest and highest.
    """
    if theirs.shape != ours.shape:
        return None
    mine, other = ours.astype(np.float64), theirs.astype(np.float64)
    padded = 0
    if volume.facts["modality"] == "CT" and padding:
        hidden = (mine == AIR_HU) & (other >= min(padding)) & (other <= max(padding))
        padded = int(hidden.sum())
        mine = np.where(hidden, other, mine)
    apart = float(np.abs(mine - other).max())
    if apart == 0:
        return Agreement("equal", 0.0, padded)
    broken = ours.dtype.kind == "f"
    if broken and apart <= FLOAT_TOLERANCE * max(float(np.abs(mine).max()), 1.0):
        return Agreement("float", apart, padded)
    if volume.facts["transfer_syntax"] in LOSSY and ours.ndim == 4:
        levels = float(np.abs((mine - other) @ np.array(LUMINANCE)).max())
        if levels <= LOSSY_LUMINANCE:
            return Agreement("lossy", levels, padded)
    return None


def declared_padding(files: Sequence[Path]) -> tuple[float, ...]:
    """Return the padding values of a series in real units (PS3.3 C.7.5.1.1.2)."""
    found = set()
    with quiet():
        for path in files:
            header = dcmread(path, force=True, stop_before_pixels=True)
            for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
                if isinstance(header.get(name), int):
                    slope = float(header.get("RescaleSlope") or 1)
                    found.add(
                        header[name].value * slope + float(header.get("RescaleIntercept") or 0)
                    )
    return tuple(found)


def misreading(theirs: np.ndarray, ours: np.ndarray, dataset: Dataset) -> str:
    """Name the mistake, or freedom, that makes dcm2niix's values of ours; empty when none does.

    Parameters
    ----------
    theirs, ours : array
        On one grid; theirs may have lost the samples of colour.
    dataset : pydicom.Dataset
        The file of the volume, or its first.
    """
    bits = int(dataset.BitsStored)
    if theirs.shape == ours.shape and ours.dtype.kind in "iu":
        apart = ours.astype(np.int64) - theirs.astype(np.int64)
        if not np.mod(apart, 1 << bits).any():
            return f"takes signed {bits}-bit values (Pixel Representation 1) for unsigned"
        if _swapped(ours) == theirs.tobytes()[: ours.size // 2 * 2]:
            return "does not exchange the bytes of 8-bit pixels in big-endian words (PS3.5 8.1.1)"
    if theirs.shape == ours.shape and ours.ndim == 4 and _halved_chroma(dataset):
        return "widens the halved chroma of lossy JPEG in its own way, as T.81 allows"
    if ours.ndim == 4 and theirs.ndim == 3 and bits == 32:
        rows, columns = ours.shape[1:3]
        samples = ours[0].reshape(-1, columns)[::-1][:rows]
        if np.array_equal(samples.astype(np.uint32), theirs[0].astype(np.uint32)):
            return "writes 32-bit colour as grey, of R, G, B, R, ... the last third, row by row"
    return ""


def _halved_chroma(dataset: Dataset) -> bool:
    """Tell whether a lossy JPEG holds fewer samples of chroma than of luminance (T.81 B.2.2)."""
    if str(dataset.file_meta.TransferSyntaxUID) not in LOSSY:
        return False
    frame = next(generate_frames(bytes(dataset.PixelData), number_of_frames=1))
    place = min(at for at in (frame.find(b"\xff\xc0"), frame.find(b"\xff\xc1")) if at >= 0)
    # Behind the marker: length, precision, rows, columns, count; then id, factors, table of each.
    return len({frame[place + 11 + 3 * component] for component in range(3)}) > 1


def _swapped(ours: np.ndarray) -> bytes:
    """Return 8-bit samples with neighbours exchanged; an odd last one is left off."""
    flat = np.ascontiguousarray(ours).ravel()
    even = flat[: flat.size // 2 * 2].reshape(-1, 2)
    return even[:, ::-1].tobytes()


def witnesses(ours: np.ndarray, files: Sequence[Path]) -> Iterator[str]:
    """Give the names of decoders other than radloop's that decode every plane as radloop does."""
    for name, decode in (("pydicom", _by_pydicom), ("GDCM", _by_gdcm)):
        try:
            with quiet():
                planes = [plane for path in files for plane in decode(path)]
        except Exception:
            continue  # it cannot read the file: no witness
        if all(any(np.array_equal(one, plane) for one in planes) for plane in ours):
            yield name


def _by_pydicom(path: Path) -> list[np.ndarray]:
    dataset = dcmread(path, force=True)
    pixels = dataset.pixel_array
    single = pixels.ndim == (2 if int(dataset.SamplesPerPixel) == 1 else 3)
    return [pixels] if single else list(pixels)


def _by_gdcm(path: Path) -> list[np.ndarray]:
    """Decode with ITK's GDCM, whose values have the rescale applied."""
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    return list(SimpleITK.GetArrayFromImage(image))
