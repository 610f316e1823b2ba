"""NRRD volumes (.nrrd, or .nhdr with its data file), http://teem.sourceforge.net/nrrd/format.html."""

import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from tasks.archive.grids import (
    MAX_HEADER_BYTES,
    RAS_SIGNS,
    Grid,
    checked_sizes,
    numbers,
    to_lps,
)
from tasks.archive.textform import normalise
from tasks.errors import BadCase

REASON = "not_nrrd"

_TYPES: Mapping[str, str] = MappingProxyType(
    {
        name: code
        for code, words in {
            "i1": "signed char,int8,int8_t",
            "u1": "uchar,unsigned char,uint8,uint8_t",
            "i2": "short,short int,signed short,signed short int,int16,int16_t",
            "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
            "i4": "int,signed int,int32,int32_t",
            "u4": "uint,unsigned int,uint32,uint32_t",
            "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,"
            "int64_t",
            "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
            "f4": "float",
            "f8": "double",
        }.items()
        for name in words.split(",")
    }
)
"""Names of types (section 4 of the format) -> NumPy's code."""

_SPACES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "left-posterior-superior": (1, 1, 1),
        "lps": (1, 1, 1),
        "right-anterior-superior": RAS_SIGNS,
        "ras": RAS_SIGNS,
        "left-anterior-superior": (1, -1, 1),
        "las": (1, -1, 1),
    }
)
"""Spaces of a patient, and the signs of their axes against LPS."""

_PACKINGS = {"raw": "raw", "gzip": "zlib", "gz": "zlib", "bzip2": "bzip2", "bz2": "bzip2"}
_COLOURS = ("rgb-color", "rgba-color", "hsv-color", "xyz-color", "vector", "3-vector", "list")
_MM = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3}
_VECTOR = re.compile(r"\([^()]*\)|none")


def read_header(data: bytes) -> Grid:
    """Return what the header of an NRRD file says.

    Parameters
    ----------
    data : bytes
        The file, or as much as holds its header.

    Raises
    ------
    BadCase
        ``not_nrrd``, ``not_grey`` (colours, vectors), ``needs_4d_grouping`` or ``unknown_space``.
    """
    fields, start = _fields(data)
    n = numbers(fields.get("dimension", ""), 1, int, REASON)[0]
    sizes = checked_sizes(numbers(fields.get("sizes", ""), None, int, REASON), REASON)
    if len(sizes) != n:
        raise BadCase(REASON, f"{n} dimensions and {len(sizes)} sizes")
    directions, origin, stated = _placed(fields, n)
    axes = _image_axes(fields, sizes, directions)
    spacings = _spacings(fields, n)
    if directions is not None:
        directions = directions[:, axes]
        lengths = np.linalg.norm(directions, axis=0)
    else:
        lengths = [spacings[axis] for axis in axes]
        stated = "spacings" if "spacings" in fields else ""
    data_file = fields.get("data file", fields.get("datafile"))
    skip = numbers(fields.get("byte skip", fields.get("byteskip", "0")), 1, int, REASON)[0]
    lines = numbers(fields.get("line skip", fields.get("lineskip", "0")), 1, int, REASON)[0]
    packing = _packing(fields, skip, lines)
    return Grid(
        sizes=tuple(sizes[axis] for axis in axes),
        dtype=_dtype(fields),
        directions=directions,
        spacings=tuple(float(length) for length in lengths),
        origin=origin,
        stated=stated,
        packing=packing,
        data_file=data_file,
        start=skip if data_file or skip < 0 else start + skip,
        lines=lines if data_file else 0,
    )


def _fields(data: bytes) -> tuple[dict[str, str], int]:
    """Return the fields by lower-case name, and where the header ends."""
    if data[:4] != b"NRRD" or not data[4:8].isdigit():
        raise BadCase(REASON, "the file does not begin with an NRRD mark")
    head = data[:MAX_HEADER_BYTES]
    # A blank line ends the header; in a file with its data beside it, the file's end does as well.
    ends = [(head.find(blank), len(blank)) for blank in (b"\n\n", b"\r\n\r\n")]
    end, length = min(((at, n) for at, n in ends if at >= 0), default=(-1, 0))
    text = head if end < 0 else head[:end]
    fields: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").splitlines()[1:]:
        name, colon, value = line.partition(": ")
        if line.startswith("#") or not colon or ":=" in name:
            continue
        fields[normalise(name).lower()] = value.strip()
    if end < 0 and "data file" not in fields and "datafile" not in fields:
        raise BadCase(REASON, "the header has no end")
    return fields, end + length if end >= 0 else len(data)


def _dtype(fields: Mapping[str, str]) -> np.dtype:
    code = _TYPES.get(" ".join(fields.get("type", "").lower().split()))
    if code is None:
        raise BadCase(REASON, "the type of its values is none that can be read")
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if order is None and code[1] != "1":
        raise BadCase(REASON, "the byte order of its values is not stated")
    return np.dtype((order or "<") + code)


def _packing(fields: Mapping[str, str], skip: int, lines: int) -> str:
    packing = _PACKINGS.get(fields.get("encoding", "").lower())
    if packing is None:
        raise BadCase(REASON, "its encoding is none of raw, gzip and bzip2")
    if skip < -1 or lines < 0 or (skip == -1 and packing != "raw"):
        raise BadCase(REASON, f"skips {skip} bytes and {lines} lines")
    return packing


def _placed(fields: Mapping[str, str], n: int) -> tuple[np.ndarray | None, np.ndarray, str]:
    """Return steps (3, n) in LPS mm (NaN for axes without), origin, and which field said so."""
    origin = np.zeros(3)
    if "space directions" not in fields:
        return None, origin, ""
    signs = _SPACES.get(fields.get("space", "").lower())
    if signs is None:
        raise BadCase("unknown_space", "its directions are of no space of a patient that is known")
    words = _VECTOR.findall(fields["space directions"].lower())
    if len(words) != n:
        raise BadCase(REASON, f"{len(words)} directions for {n} axes")
    unit = _unit(fields)
    steps = np.array([_vector(word) if word != "none" else [np.nan] * 3 for word in words]).T
    if "space origin" in fields:
        origin = np.array(_vector(fields["space origin"]))
    return to_lps(steps * unit, signs), to_lps(origin[:, None] * unit, signs)[:, 0], "space"


def _vector(word: str) -> list[float]:
    return numbers(word.strip("() ").replace(",", " "), 3, float, REASON)


def _unit(fields: Mapping[str, str]) -> float:
    """Return millimetres per unit of the space; all its axes have one unit."""
    named = {name.strip('" ').lower() for name in fields.get("space units", "").split()}
    named -= {"", "?", "???"}
    if not named:
        return 1.0
    if len(named) > 1 or not named <= _MM.keys():
        raise BadCase("unknown_space", "its space has other units than one of length")
    return _MM[named.pop()]


def _spacings(fields: Mapping[str, str], n: int) -> list[float]:
    words = fields.get("spacings", " ".join(["1"] * n)).lower().split()
    if len(words) != n:
        raise BadCase(REASON, f"{len(words)} spacings for {n} axes")
    # NaN for axes that are not of space.
    return [abs(numbers(word, 1, float, REASON)[0]) if word != "nan" else 1.0 for word in words]


def _image_axes(
    fields: Mapping[str, str], sizes: tuple[int, ...], directions: np.ndarray | None
) -> list[int]:
    """Return the two or three axes of space; others may only have one value."""
    kinds = [word.lower() for word in fields.get("kinds", "").split()] or ["domain"] * len(sizes)
    if len(kinds) != len(sizes):
        raise BadCase(REASON, f"{len(kinds)} kinds for {len(sizes)} axes")
    if directions is not None:
        axes = [n for n in range(len(sizes)) if np.isfinite(directions[:, n]).all()]
    else:
        axes = [n for n, kind in enumerate(kinds) if kind in ("domain", "space", "???", "none")]
    others = [n for n in range(len(sizes)) if n not in axes and sizes[n] > 1]
    if any(kinds[n] in _COLOURS[:-1] for n in others):
        raise BadCase("not_grey", f"{sizes[others[0]]} values a voxel")
    if len(axes) > 3:
        others, axes = axes[3:], axes[:3]
        others = [n for n in others if sizes[n] > 1]
    if others:
        raise BadCase("needs_4d_grouping", f"an axis of {sizes[others[0]]} beside those of space")
    if len(axes) < 2:
        raise BadCase(REASON, f"{len(axes)} axes of space; an image has two or three")
    return axes
