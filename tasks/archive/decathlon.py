"""Folders in the form of the Medical Segmentation Decathlon: which file is what, and its facts."""

import gzip
import io
import json
import posixpath
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.archive.kept import KEPT_FIELDS
from tasks.errors import BadCase

NIFTI_SUFFIXES = (".nii.gz", ".nii")
HEADER_BYTES = 540
"""A NIfTI-2 header; NIfTI-1 needs 348."""

MAX_INDEX_BYTES = 64 << 20
"""Largest dataset.json read: hundreds of thousands of cases."""

_MODALITIES = {"mri": "MR", "mr": "MR", "ct": "CT", "pet": "PT", "pt": "PT", "us": "US"}
_MR_CONTRASTS = {
    "t1", "t1w", "t1n", "t1c", "t1ce", "t1gd", "t2", "t2w", "t2f", "flair", "adc", "dwi", "pd",
}  # fmt: skip


@dataclass(frozen=True)
class DecathlonIndex:
    """What dataset.json says: paths are relative to the folder."""

    images: tuple[str, ...]
    masks: Mapping[str, str]
    """Path of a mask -> path of its image."""
    modality: str | None


def read_index(root: Path) -> DecathlonIndex:
    """Read a folder's dataset.json.

    Raises
    ------
    ValueError
        It is missing, not JSON, too large, or lists a place outside the folder.
    """
    try:
        with (root / "dataset.json").open("rb") as stream:
            data = stream.read(MAX_INDEX_BYTES + 1)
        if len(data) > MAX_INDEX_BYTES:
            raise ValueError
        content = json.loads(data)
        training, test = content["training"], content.get("test") or []
        masks = {_inside(pair["label"]): _inside(pair["image"]) for pair in training}
        images = [_inside(pair["image"]) for pair in training] + [_inside(path) for path in test]
        modality = modality_of((content.get("modality") or {}).values())
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise ValueError(
            "The folder's dataset.json cannot be read: it must list images and labels under "
            '"training" with paths inside the folder.'
        ) from None
    return DecathlonIndex(tuple(dict.fromkeys(images)), masks, modality)


def stem(path: str) -> str:
    """Return the name of a NIfTI file without folder and ending."""
    name = posixpath.basename(path)
    for suffix in NIFTI_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def nifti_facts(data: bytes, modality: str | None) -> dict[str, Any]:
    """Return the kept fields of a NIfTI file, read from its header alone; spacing in mm.

    Raises
    ------
    BadCase
        ``unreadable_nifti``: not NIfTI, or its header contradicts itself.
    """
    import nibabel

    head = _head(data)
    kinds = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    little, big = (int.from_bytes(head[:4], order) for order in ("little", "big"))
    size = little if little in kinds else big
    kind = kinds.get(size)
    if kind is None:
        raise BadCase("unreadable_nifti", "the file does not start with a NIfTI header")
    try:
        # Not a byte more: nibabel would go on with the extensions, which end later than this.
        header = kind.from_fileobj(io.BytesIO(head[:size]), check=False)
        shape = [int(n) for n in header.get_data_shape()]
        zooms = [float(mm) for mm in header.get_zooms()]
    except Exception as error:  # nibabel raises many kinds on damaged headers
        raise BadCase("unreadable_nifti", f"nibabel: {type(error).__name__}") from None
    if not 2 <= len(shape) <= 5 or min(shape) < 1:
        raise BadCase("unreadable_nifti", f"{len(shape)} dimensions, the smallest {min(shape)}")
    depth, thickness = (shape[2], zooms[2]) if len(shape) > 2 else (1, None)
    facts = {
        "modality": modality,
        "cols": shape[0],
        "rows": shape[1],
        "frames": depth,
        "spacing_col": _millimetres(zooms[0]),
        "spacing_row": _millimetres(zooms[1]),
        "slice_thickness": _millimetres(thickness),
    }
    return {name: facts.get(name) for name in KEPT_FIELDS}


def _millimetres(value: float | None) -> float | None:
    # The header keeps 32-bit floats: 0.699999988 was written as 0.7.
    return round(value, 6) if value and 0 < value < float("inf") else None


def _head(data: bytes) -> bytes:
    if data[:2] != b"\x1f\x8b":
        return data[:HEADER_BYTES]
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return stream.read(HEADER_BYTES)
    except (OSError, EOFError, zlib.error):
        raise BadCase("unreadable_nifti", "its compression is damaged") from None


def _inside(path: str) -> str:
    """Return a listed path in its plain form; it may not leave the folder."""
    plain = posixpath.normpath(path)
    if plain.startswith(("/", "..")) or "\\" in plain or "\0" in plain:
        raise ValueError
    return plain


def modality_of(listed: Iterable[Any]) -> str | None:
    """Return the DICOM modality that names of channels tell, by the first of them."""
    names = [str(name).strip().lower() for name in listed]
    if not names:
        return None
    first = names[0]
    return "MR" if first in _MR_CONTRASTS else _MODALITIES.get(first, "other")
