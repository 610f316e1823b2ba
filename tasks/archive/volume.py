"""One series to one volume on its own grid: a stack of slices, a single image or a NIfTI file.

What is not a plain volume yet (4-D, mosaic, enhanced multi-frame, cine, several radiographs in a
series) is refused with a reason, never guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom import Dataset

from tasks.archive import geometry
from tasks.archive.grey import exact, shown_grey, slice_in_units
from tasks.archive.pixels import check_size, frame_count, quiet, read_dataset, transfer_syntax
from tasks.archive.sources import FileRef, read_bytes
from tasks.errors import BadCase

VOLUMETRIC = frozenset({"CT", "MR", "PT"})
"""Modalities whose values are kept in real units, also when the series has one slice."""

PROJECTION = frozenset({"CR", "DX", "MG", "XA", "RF", "RG", "PX", "IO", "US", "IVUS", "XC"})
"""Modalities whose images are each a picture of their own, whatever position they state."""

LATER = "brought by a later release"

UNKNOWN_SPACING = "spacing unknown"
"""Fact of an image that states no size; its voxels then count as 1 mm."""

_ULTRASOUND_CM = 3
"""Physical Units code for cm in an ultrasound region (PS3.3 C.8.5.5.1.15)."""


@dataclass(frozen=True)
class Volume:
    """Voxels in real units with their place in the patient.

    Parameters
    ----------
    array : array, shape (z, y, x)
        int16 or int32 when exact in real units, else float32.
    affine : array, shape (4, 4)
        Index (z, y, x, 1) to LPS mm (x, y, z, 1).
    certificate : dict
        `geometry.Certificate.to_dict()`.
    facts : dict
        Non-identifying: modality, rows, cols, frames, photometric, transfer_syntax, spacing, voi.
    """

    array: np.ndarray
    affine: np.ndarray
    certificate: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)


def read_volume(kind: str, files: Sequence[FileRef]) -> Volume:
    """Read one case.

    Parameters
    ----------
    kind : str
        ``"dicom"`` (all files of one series, in any order), or ``"nifti"``, ``"nrrd"``, ``"mha"``
        and ``"picture"`` (see `other_formats.read_other`).
    files : sequence of FileRef

    Raises
    ------
    BadCase
        The case cannot be used: ``needs_4d_grouping``, ``needs_multiframe``, ``several_images``,
        ``localizer``, ``mixed_*``, ``missing_slices``, ``gantry_tilt``, ``undecodable``, ...
    ValueError
        For another kind or no files.
    """
    if not files:
        raise ValueError("a case needs at least one file, got none")
    if kind != "dicom":
        from tasks.archive.other_formats import read_other

        return read_other(kind, files)
    slices = [read_dataset(read_bytes(ref)) for ref in _distinct(files)]
    try:
        with quiet():
            return _assemble(slices)
    except BadCase:
        raise
    except Exception as error:
        # pydicom converts elements when they are asked for, and fails on damaged ones in many
        # ways; its messages quote values, so only the kind of the error is kept.
        raise BadCase(
            "invalid_header", f"an element cannot be read ({type(error).__name__})"
        ) from None


def read_mask(ref: FileRef, like: Volume) -> np.ndarray:
    """Read a label map onto the grid of a volume; see `nifti.read_mask`."""
    from tasks.archive.nifti import read_mask as read

    return read(ref, like)


def write_nifti(path: Any, array: np.ndarray, affine: np.ndarray) -> None:
    """Write an array (z, y, x) with its LPS index affine; see `nifti.write_nifti`."""
    from tasks.archive.nifti import write_nifti as write

    write(path, array, affine)


def _distinct(files: Sequence[FileRef]) -> list[FileRef]:
    """Drop files of the same content: an archive often holds one instance twice."""
    seen: dict[Any, FileRef] = {}
    for ref in files:
        seen.setdefault(ref.digest or (ref.path, ref.member), ref)
    return list(seen.values())


def _assemble(slices: list[Dataset]) -> Volume:
    for dataset in slices:
        _refuse_unsupported(dataset)
    modality = str(slices[0].get("Modality") or "OT")
    placed = all(_has_position(dataset) for dataset in slices)
    if len(slices) > 1 and (modality in PROJECTION or not placed):
        if modality in VOLUMETRIC:
            raise BadCase("missing_position", "slices without position or orientation")
        raise BadCase(
            "several_images",
            f"{len(slices)} {modality} images in one series are not one image; {LATER}",
        )
    _refuse_mixed(slices)
    if placed and modality not in PROJECTION:
        return _stack(slices, modality)
    return _single(slices[0], modality)


def _refuse_unsupported(dataset: Dataset) -> None:
    if "PixelData" not in dataset and ("FloatPixelData" in dataset or "Rows" not in dataset):
        raise BadCase("not_an_image", f"{dataset.get('Modality') or 'object'} without grey pixels")
    if str(dataset.get("Modality")) == "SEG":
        raise BadCase("not_an_image", "a segmentation is a label, not an image")
    if frame_count(dataset) > 1 or "SharedFunctionalGroupsSequence" in dataset:
        raise BadCase(
            "needs_multiframe", f"{frame_count(dataset)} frames in one file (enhanced or cine): "
            f"{LATER}",
        )  # fmt: skip
    words = _image_type(dataset)
    if "MOSAIC" in words:
        raise BadCase("needs_4d_grouping", f"a mosaic of slices: needs 4-D grouping, {LATER}")
    if "LOCALIZER" in words:
        raise BadCase("localizer", "holds localizer images, which are not part of a volume")
    check_size(dataset)


def _refuse_mixed(slices: list[Dataset]) -> None:
    """Slices of one volume agree on what they are."""
    for reason, what, key in (
        ("mixed_modality", "modality", lambda d: str(d.get("Modality"))),
        ("mixed_image_types", "image type", _image_type),
        ("mixed_matrix", "rows and columns", lambda d: (int(d.Rows), int(d.Columns))),
        ("mixed_spacing", "pixel spacing", lambda d: _numbers(d.get("PixelSpacing"))),
        ("mixed_frame_of_reference", "frame of reference", _frame_of_reference),
    ):
        found = {key(dataset) for dataset in slices}
        if len(found) > 1:
            raise BadCase(reason, f"{len(found)} different values of {what} in one series")


def _stack(slices: list[Dataset], modality: str) -> Volume:
    spacing, spacing_fact = _pixel_spacing(slices[0])
    positions = np.array([_numbers(d.ImagePositionPatient) for d in slices])
    directions = np.array([_numbers(d.ImageOrientationPatient) for d in slices])
    rows, columns = directions[:, :3], directions[:, 3:]
    certificate, order = geometry.certify(positions, rows, columns, spacing)
    if certificate.verdict != "accept":
        raise BadCase(certificate.reason, _sentence(certificate))
    affine = geometry.affine_from(positions[order], rows[order], columns[order], spacing)
    first = slices[order[0]]
    facts = _facts(first, modality, len(slices), spacing_fact)
    if modality in VOLUMETRIC or len(slices) > 1:
        array = _stacked([slices[i] for i in order], slices)
    else:
        grey, facts["voi"] = shown_grey(first)
        array = _as_volume(grey)
    return Volume(array, affine, certificate.to_dict(), facts)


def _stacked(ordered: list[Dataset], held: list[Dataset]) -> np.ndarray:
    """Decode slices into one array, letting each file's bytes go as soon as it is decoded."""
    held.clear()
    shape = (len(ordered), int(ordered[0].Rows), int(ordered[0].Columns))
    out = np.empty(shape, dtype=np.int16)
    for index in range(len(ordered)):
        values = slice_in_units(ordered[index])
        ordered[index] = None
        # int16 holds nearly every series; the few others widen once and stay wide.
        out = out.astype(_wider(out.dtype, values.dtype), copy=False)
        out[index] = values
    return out


def _wider(a: np.dtype, b: np.dtype) -> np.dtype:
    """Return int16, int32 or float32, whichever holds both (float32 wins over integers)."""
    return np.dtype(np.float32) if "f" in (a.kind, b.kind) else np.promote_types(a, b)


def _single(dataset: Dataset, modality: str) -> Volume:
    spacing, spacing_fact = _pixel_spacing(dataset)
    facts = _facts(dataset, modality, 1, spacing_fact)
    if modality in VOLUMETRIC:
        array = exact(slice_in_units(dataset))[None]
    else:
        grey, facts["voi"] = shown_grey(dataset)
        array = _as_volume(grey)
    origin, row, column = np.zeros((1, 3)), np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    certificate, _ = geometry.certify(origin, row, column, spacing)
    plain = {**certificate.to_dict(), "orientation": "image plane"}
    return Volume(array, geometry.affine_from(origin, row, column, spacing), plain, facts)


def _as_volume(grey: np.ndarray) -> np.ndarray:
    if grey.ndim != 2:
        raise BadCase("not_grey", f"an image of shape {grey.shape} is not one grey plane")
    return np.ascontiguousarray(grey)[None]


def _pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float], str]:
    """Return (row, column) spacing in mm and where it came from.

    Pixel Spacing is calibrated to the patient, Imager Pixel Spacing to the detector (PS3.3
    10.7.1.3); ultrasound states it per region.
    """
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        values = _numbers(dataset.get(name))
        if len(values) == 2 and min(values) > 0:
            return (values[0], values[1]), name
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    if len(regions) == 1 and _in_cm(regions[0]):
        region = regions[0]
        return (
            abs(float(region.PhysicalDeltaY)) * 10,
            abs(float(region.PhysicalDeltaX)) * 10,
        ), "SequenceOfUltrasoundRegions"
    return (1.0, 1.0), UNKNOWN_SPACING


def _in_cm(region: Dataset) -> bool:
    units = {region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")}
    deltas = (region.get("PhysicalDeltaX"), region.get("PhysicalDeltaY"))
    return units == {_ULTRASOUND_CM} and all(deltas)


def _facts(dataset: Dataset, modality: str, frames: int, spacing_fact: str) -> dict[str, Any]:
    return {
        "modality": modality,
        "rows": int(dataset.Rows),
        "cols": int(dataset.Columns),
        "frames": frames,
        "photometric": str(dataset.get("PhotometricInterpretation") or ""),
        "transfer_syntax": transfer_syntax(dataset),
        "spacing": spacing_fact,
    }


def _sentence(certificate: geometry.Certificate) -> str:
    """Say in numbers why a stack is not used."""
    spacing = certificate.spacing[0]
    told = {
        "missing_slices": f"{sum(n for _, n in certificate.gaps)} slices lack in "
        f"{len(certificate.gaps)} gaps of {certificate.n_frames} slices; send the whole series",
        "duplicate_positions": f"{certificate.duplicates} of {certificate.n_frames} slices share "
        "a position; remove the strays",
        "needs_4d_grouping": f"{certificate.duplicates} of {certificate.n_frames} slices repeat "
        f"positions: needs 4-D grouping, {LATER}",
        "uneven_spacing": f"slices lie up to {certificate.jitter_mm:.3f} mm off an even spacing "
        f"of {spacing:.3f} mm (limit {geometry.EVEN_TOLERANCE:.0%}); resampling is {LATER}",
        "gantry_tilt": f"the stack leans {certificate.tilt_deg:.2f} degrees (limit "
        f"{geometry.TILT_TOLERANCE_DEG}); correction is {LATER}",
        "mixed_orientation": "slices are turned against each other; split the series",
    }
    return told.get(certificate.reason, "")


def _has_position(dataset: Dataset) -> bool:
    position, orientation = (
        _numbers(dataset.get(name)) for name in ("ImagePositionPatient", "ImageOrientationPatient")
    )
    return len(position) == 3 and len(orientation) == 6


def _image_type(dataset: Dataset) -> tuple[str, ...]:
    value = dataset.get("ImageType") or ()
    return tuple(str(v).upper() for v in ([value] if isinstance(value, str) else value))


def _frame_of_reference(dataset: Dataset) -> str:
    return str(dataset.get("FrameOfReferenceUID") or "")


def _numbers(value: Any) -> tuple[float, ...]:
    """Return the numbers of a multi-valued element, () when one is missing or no number."""
    try:
        return tuple(float(v) for v in value)
    except (TypeError, ValueError):
        return ()
