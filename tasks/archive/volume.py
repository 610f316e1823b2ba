"""One series to its volumes, each on its own grid: a stack, a picture, a cine or a NIfTI file.

What cannot be told apart or placed exactly is refused with a reason, never guessed.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pydicom import Dataset

from tasks.archive import geometry
from tasks.archive.certificate import sentence
from tasks.archive.frames import UNKNOWN_SPACING, Frame, planes_of
from tasks.archive.grey import AIR_HU, MONOCHROME, exact, shown_grey, slice_in_units
from tasks.archive.groups import Group
from tasks.archive.series import VOLUMETRIC, groups_of, guarded, modality_of
from tasks.archive.sources import FileRef
from tasks.archive.straighten import straightened
from tasks.errors import BadCase

MAX_TOLD = 6
"""Keys of volumes that a message lists; a time series has hundreds."""

__all__ = ["UNKNOWN_SPACING", "Volume", "read_mask", "read_volume", "read_volumes", "write_nifti"]


@dataclass(frozen=True)
class Volume:
    """Voxels in real units with their place in the patient.

    Parameters
    ----------
    array : array, shape (z, y, x)
        int16 or int32 when exact in real units, else float32. Of a cine, z is time.
    affine : array, shape (4, 4)
        Index (z, y, x, 1) to LPS mm (x, y, z, 1).
    certificate : dict
        `geometry.Certificate.to_dict()`.
    facts : dict
        Non-identifying: modality, rows, cols, frames, photometric, transfer_syntax, spacing, voi.
    key : str
        Which volume of its series it is; empty for the only one.
    """

    array: np.ndarray
    affine: np.ndarray
    certificate: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    key: str = ""


def read_volume(
    kind: str, files: Sequence[FileRef], key: str = "", *, straighten: bool = False
) -> Volume:
    """Read one case.

    Parameters
    ----------
    kind : str
        ``"dicom"`` (all files of one series, in any order), or ``"nifti"``, ``"nrrd"``, ``"mha"``
        and ``"picture"`` (see `other_formats.read_other`).
    files : sequence of FileRef
    key : str
        Which volume, for a series that holds several; see `read_volumes`.
    straighten : bool
        Put a leaning or uneven stack on an upright, even grid instead of refusing it.

    Raises
    ------
    BadCase
        The case cannot be used: ``several_volumes``, ``several_images``, ``localizer``,
        ``mixed_*``, ``missing_slices``, ``gantry_tilt``, ``undecodable``, ...
    ValueError
        For another kind or no files.
    """
    if (single := _other_kind(kind, files)) is not None:
        return single
    groups, notes = groups_of(files)
    keys = [group.key for group in groups]
    if key not in keys:
        raise _unknown_key(key, groups)
    group = groups[keys.index(key)]
    groups.clear()
    return _built(group, notes, straighten)


def read_volumes(
    kind: str, files: Sequence[FileRef], *, straighten: bool = False
) -> Iterator[Volume | tuple[str, BadCase]]:
    """Read every volume of a series, one at a time.

    Yields
    ------
    Volume, or (str, BadCase)
        A volume, or the key and reason of one that cannot be used.

    Raises
    ------
    BadCase
        When the series as a whole cannot be read.
    """
    if (single := _other_kind(kind, files)) is not None:
        yield single
        return
    groups, notes = groups_of(files)
    groups.reverse()
    while groups:
        group = groups.pop()
        try:
            yield _built(group, notes, straighten)
        except BadCase as problem:
            yield group.key, problem


def read_mask(ref: FileRef, like: Volume) -> np.ndarray:
    """Read a label map onto the grid of a volume; see `nifti.read_mask`."""
    from tasks.archive.nifti import read_mask as read

    return read(ref, like)


def write_nifti(path: Any, array: np.ndarray, affine: np.ndarray) -> None:
    """Write an array (z, y, x) with its LPS index affine; see `nifti.write_nifti`."""
    from tasks.archive.nifti import write_nifti as write

    write(path, array, affine)


def _other_kind(kind: str, files: Sequence[FileRef]) -> Volume | None:
    """Read what is no DICOM; None when it is."""
    if not files:
        raise ValueError("a case needs at least one file, got none")
    if kind != "dicom":
        from tasks.archive.other_formats import read_other

        return read_other(kind, files)
    return None


def _unknown_key(key: str, groups: list[Group]) -> BadCase:
    """Say that a volume is not there, or that several are and none was named."""
    shown = [group.key or "(the only one)" for group in groups[:MAX_TOLD]]
    told = ", ".join(shown) + (", ..." if len(groups) > len(shown) else "")
    if key:
        return BadCase("no_such_volume", f"volume {key!r} is not in this series; it holds {told}")
    if groups[0].picture:
        return BadCase(
            "several_images",
            f"{len(groups)} images in one series are not one image; name one: {told}",
        )
    return BadCase("several_volumes", f"{len(groups)} volumes in one series; name one: {told}")


def _built(group: Group, notes: tuple[str, ...], straighten: bool) -> Volume:
    with guarded():
        frames, modality = group.frames, modality_of(group.frames[0])
        if group.picture:
            volume = _picture(frames, modality)
        else:
            volume = _stack(frames, modality, straighten)
        noted = [*volume.certificate["notes"], *notes]
        return replace(volume, key=group.key, certificate={**volume.certificate, "notes": noted})


def _refuse_mixed(frames: list[Frame]) -> None:
    """Slices of one volume agree on what they are."""
    for reason, what, key in (
        ("mixed_matrix", "rows and columns", lambda f: f.shape),
        ("mixed_spacing", "pixel spacing", lambda f: f.spacing),
        ("mixed_frame_of_reference", "frame of reference", _frame_of_reference),
    ):
        found = {key(frame) for frame in frames}
        if len(found) > 1:
            raise BadCase(reason, f"{len(found)} different values of {what} in one volume")


def _stack(frames: list[Frame], modality: str, straighten: bool) -> Volume:
    _refuse_mixed(frames)
    spacing = frames[0].spacing
    positions = np.array([frame.position for frame in frames])
    directions = np.array([frame.orientation for frame in frames])
    rows, columns = directions[:, :3], directions[:, 3:]
    certificate, order = geometry.certify(positions, rows, columns, spacing)
    mend = straighten and certificate.verdict == "resample"
    if certificate.verdict != "accept" and not mend:
        raise BadCase(certificate.reason, sentence(certificate))
    affine = geometry.affine_from(positions[order], rows[order], columns[order], spacing)
    first = frames[order[0]]
    facts = _facts(first, modality, len(frames))
    if modality in VOLUMETRIC or len(frames) > 1:
        array = _stacked([frames[i] for i in order], frames)
    else:
        grey, facts["voi"] = shown_grey(first.source.dataset, first.source.plane(first.index))
        array = _as_volume(grey)
    if mend:
        row, column = (v / np.linalg.norm(v) for v in (affine[:3, 2], affine[:3, 1]))
        fill = AIR_HU if modality == "CT" else float(array.min())
        array, affine = straightened(array, positions[order], row, column, spacing, fill)
        certificate = replace(
            certificate,
            spacing=geometry.spacing_of(affine),
            notes=(f"resampled: {certificate.how}",),
        )
    return Volume(array, affine, certificate.to_dict(), facts)


def _stacked(ordered: list[Frame], held: list[Frame]) -> np.ndarray:
    """Decode slices into one array, letting each file's bytes go as soon as it is decoded."""
    held.clear()
    out = np.empty((len(ordered), *ordered[0].shape), dtype=np.int16)
    under_way: deque[Frame] = deque()

    def taken() -> Iterator[Frame]:
        ordered.reverse()
        while ordered:
            under_way.append(ordered.pop())
            yield under_way[-1]

    for index, stored in enumerate(planes_of(taken())):
        frame = under_way.popleft()
        values = slice_in_units(frame.source.dataset, stored, frame.rescale)
        # int16 holds nearly every series; the few others widen once and stay wide.
        out = out.astype(_wider(out.dtype, values.dtype), copy=False)
        out[index] = values
    return out


def _wider(a: np.dtype, b: np.dtype) -> np.dtype:
    """Return int16, int32 or float32, whichever holds both (float32 wins over integers)."""
    return np.dtype(np.float32) if "f" in (a.kind, b.kind) else np.promote_types(a, b)


def _picture(frames: list[Frame], modality: str) -> Volume:
    """Read images without a place in the patient; several frames of one file are a cine."""
    first = frames[0]
    facts = _facts(first, modality, len(frames))
    if modality in VOLUMETRIC:
        array = exact(slice_in_units(first.source.dataset, first.source.plane(first.index)))[None]
    else:
        planes = []
        for frame, stored in zip(frames, planes_of(frames, keep=True), strict=True):
            grey, facts["voi"] = shown_grey(frame.source.dataset, stored)
            planes.append(_as_volume(grey))
        array = exact(np.concatenate(planes)) if len(planes) > 1 else planes[0]
    if len(frames) > 1:
        facts["axis"] = "time"
    if str(facts["photometric"]) not in MONOCHROME:
        facts["colour"] = "luminance"
    origin, row, column = np.zeros((1, 3)), np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    certificate, _ = geometry.certify(origin, row, column, first.spacing)
    plain = {**certificate.to_dict(), "orientation": "image plane", "n_frames": len(frames)}
    affine = geometry.affine_from(origin, row, column, first.spacing)
    return Volume(array, affine, plain, facts)


def _as_volume(grey: np.ndarray) -> np.ndarray:
    if grey.ndim != 2:
        raise BadCase("not_grey", f"an image of shape {grey.shape} is not one grey plane")
    return np.ascontiguousarray(grey)[None]


def _facts(frame: Frame, modality: str, count: int) -> dict[str, Any]:
    dataset: Dataset = frame.source.dataset
    return {
        "modality": modality,
        "rows": frame.shape[0],
        "cols": frame.shape[1],
        "frames": count,
        "photometric": str(dataset.get("PhotometricInterpretation") or ""),
        "transfer_syntax": frame.source.pixels.format.syntax,
        "spacing": frame.spacing_fact,
    }


def _frame_of_reference(frame: Frame) -> str:
    return str(frame.source.dataset.get("FrameOfReferenceUID") or "")
