"""One series to its volumes, each on its own grid: a stack, a picture, a cine or a NIfTI file.

What cannot be told apart or placed exactly is refused with a reason, never guessed.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pydicom import Dataset

from tasks.archive import codes, geometry
from tasks.archive.certificate import sentence
from tasks.archive.choice import VolumeChoice
from tasks.archive.chosen import chosen_group, named_group
from tasks.archive.frames import UNKNOWN_SPACING, Frame, planes_of
from tasks.archive.grey import AIR_HU, MONOCHROME, exact, shown_grey, slice_in_units
from tasks.archive.groups import Group
from tasks.archive.series import VOLUMETRIC, groups_of, guarded, modality_of
from tasks.archive.sources import FileRef
from tasks.archive.straighten import SLICE_POSITIONS, straightened
from tasks.archive.window import window_of
from tasks.errors import BadCase

__all__ = [
    "IMAGE_PLANE",
    "UNKNOWN_SPACING",
    "Volume",
    "is_cine",
    "is_placed",
    "read_volume",
    "read_volumes",
]


TIME = "time"
"""Fact ``axis`` of a cine."""

IMAGE_PLANE = "image plane"
"""Orientation, in the certificate, of what has no place in the patient."""


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
        Non-identifying: modality, rows, cols, frames, photometric, transfer_syntax, spacing; voi
        of what is read in shown grey values, else window (see `window.window_of`).
    key : str
        Which volume of its series it is; empty for the only one.
    frame : str
        Frame of Reference UID, to compare two series of one study by; it is never stored.
    """

    array: np.ndarray
    affine: np.ndarray
    certificate: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    frame: str = field(default="", repr=False)


def read_volume(
    kind: str,
    files: Sequence[FileRef],
    key: str = "",
    *,
    choice: VolumeChoice | None = None,
    straighten: bool = False,
    leaning: bool = False,
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
    choice : VolumeChoice, optional
        What the volume must be, instead of its key; see `choice.parse_choice`.
    straighten : bool
        Put a leaning or uneven stack on an upright, even grid instead of refusing it.
    leaning : bool
        Give a leaning or uneven stack as it stands instead of refusing it: its affine has the mean
        step, sheared where it leans, and the fact `SLICE_POSITIONS` says where each slice lies.

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
    group = chosen_group(groups, choice) if choice else named_group(groups, key)
    groups.clear()
    return _built(group, notes, straighten, leaning)


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


def _other_kind(kind: str, files: Sequence[FileRef]) -> Volume | None:
    """Read what is no DICOM; None when it is."""
    if not files:
        raise ValueError("a case needs at least one file, got none")
    if kind != "dicom":
        from tasks.archive.other_formats import read_other

        return read_other(kind, files)
    return None


def _built(group: Group, notes: tuple[str, ...], straighten: bool, leaning: bool = False) -> Volume:
    with guarded():
        frames, modality = group.frames, modality_of(group.frames[0])
        frame = "" if group.picture else _frame_of_reference(frames[0])
        if group.picture:
            volume = _picture(frames, modality)
        else:
            volume = _stack(frames, modality, straighten, leaning)
        noted = [*volume.certificate["notes"], *notes]
        certificate = {**volume.certificate, "notes": noted}
        return replace(volume, key=group.key, certificate=certificate, frame=frame)


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


def _stack(frames: list[Frame], modality: str, straighten: bool, leaning: bool) -> Volume:
    _refuse_mixed(frames)
    spacing = frames[0].spacing
    positions = np.array([frame.position for frame in frames])
    directions = np.array([frame.orientation for frame in frames])
    rows, columns = directions[:, :3], directions[:, 3:]
    certificate, order = geometry.certify(positions, rows, columns, spacing)
    crooked = certificate.verdict == "resample"
    if certificate.verdict != "accept" and not (crooked and (straighten or leaning)):
        raise BadCase(certificate.reason, sentence(certificate))
    affine = geometry.affine_from(positions[order], rows[order], columns[order], spacing)
    first = frames[order[0]]
    facts = _facts(first, modality, len(frames))
    if modality in VOLUMETRIC or len(frames) > 1:
        facts["window"] = window_of(frames)
        array = _stacked([frames[i] for i in order], frames)
    else:
        grey, facts["voi"] = shown_grey(first.source.dataset, first.source.plane(first.index))
        array = _as_volume(grey)
    if crooked and leaning:
        facts[SLICE_POSITIONS] = positions[order].tolist()
    elif crooked:
        fill = AIR_HU if modality == "CT" else float(array.min())
        array, affine = straightened(array, positions[order], affine, fill)
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
        facts["window"] = window_of(frames)
        array = exact(slice_in_units(first.source.dataset, first.source.plane(first.index)))[None]
    else:
        planes = []
        for frame, stored in zip(frames, planes_of(frames, keep=True), strict=True):
            grey, facts["voi"] = shown_grey(frame.source.dataset, stored)
            planes.append(_as_volume(grey))
        array = exact(np.concatenate(planes)) if len(planes) > 1 else planes[0]
    if len(frames) > 1:
        facts["axis"] = TIME
    if str(facts["photometric"]) not in MONOCHROME:
        facts["colour"] = "luminance"
    origin, row, column = np.zeros((1, 3)), np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    certificate, _ = geometry.certify(origin, row, column, first.spacing)
    plain = {**certificate.to_dict(), "orientation": IMAGE_PLANE, "n_frames": len(frames)}
    affine = geometry.affine_from(origin, row, column, first.spacing)
    return Volume(array, affine, plain, facts)


def _as_volume(grey: np.ndarray) -> np.ndarray:
    if grey.ndim != 2:
        raise BadCase("not_grey", f"an image of shape {grey.shape} is not one grey plane")
    return np.ascontiguousarray(grey)[None]


def _facts(frame: Frame, modality: str, count: int) -> dict[str, Any]:
    dataset: Dataset = frame.source.dataset
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    # Terms of the standard only: what else stands there may be anything, also a name.
    return {
        "modality": modality,
        "rows": frame.shape[0],
        "cols": frame.shape[1],
        "frames": count,
        "photometric": codes.term(photometric, codes.PHOTOMETRIC) or "",
        "transfer_syntax": codes.transfer_syntax(frame.source.pixels.format.syntax),
        "spacing": frame.spacing_fact,
    }


def is_placed(volume: Volume) -> bool:
    """Say whether a volume lies in the patient; else its affine is that of the image plane."""
    return volume.certificate.get("orientation") != IMAGE_PLANE


def is_cine(volume: Volume) -> bool:
    """Say whether the first axis of a volume is time."""
    return volume.facts.get("axis") == TIME


def _frame_of_reference(frame: Frame) -> str:
    return str(frame.source.dataset.get("FrameOfReferenceUID") or "")
