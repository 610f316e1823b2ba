"""MetaImage volumes (.mha, or .mhd with its .raw), in LPS as ITK writes them."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from tasks.archive.grids import MAX_HEADER_BYTES, Grid, checked_sizes, numbers
from tasks.errors import BadCase

REASON = "not_metaimage"

_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "MET_CHAR": "i1",
        "MET_UCHAR": "u1",
        "MET_SHORT": "i2",
        "MET_USHORT": "u2",
        "MET_INT": "i4",
        "MET_UINT": "u4",
        # What C calls long has four bytes in MetaIO, whatever the machine.
        "MET_LONG": "i4",
        "MET_ULONG": "u4",
        "MET_LONG_LONG": "i8",
        "MET_ULONG_LONG": "u8",
        "MET_FLOAT": "f4",
        "MET_DOUBLE": "f8",
    }
)


def read_header(data: bytes) -> Grid:
    """Return what the header of a MetaImage file says.

    Parameters
    ----------
    data : bytes
        The file, or as much as holds its header.

    Raises
    ------
    BadCase
        ``not_metaimage``, ``not_grey`` (several values a voxel), ``needs_4d_grouping`` or
        ``unknown_space``.
    """
    fields, start = _fields(data)
    n = numbers(fields.get("NDims", ""), 1, int, REASON)[0]
    if not 2 <= n <= 4:
        raise BadCase(REASON, f"{n} dimensions; 2 and 3 are read")
    sizes = checked_sizes(numbers(fields.get("DimSize", ""), n, int, REASON), REASON)
    if numbers(fields.get("ElementNumberOfChannels", "1"), 1, int, REASON) != [1]:
        raise BadCase("not_grey", "several values a voxel")
    if n == 4 and sizes[3] > 1:
        raise BadCase("needs_4d_grouping", f"a MetaImage of {sizes[3]} volumes")
    if fields.get("DistanceUnits", "mm") not in ("mm", "?"):
        raise BadCase("unknown_space", "its lengths are not in mm")
    if fields.get("ObjectType", "Image") != "Image" or _is_true(fields, "BinaryData") is False:
        raise BadCase(REASON, "no image with binary values")
    size_text = "ElementSpacing" if "ElementSpacing" in fields else "ElementSize"
    spacings = numbers(fields.get(size_text, " ".join(["1"] * n)), n, float, REASON)
    directions, origin, stated = _placed(fields, n, spacings)
    name = fields["ElementDataFile"]
    skip = numbers(fields.get("HeaderSize", "0"), 1, int, REASON)[0]
    local = name.upper() == "LOCAL"
    if name.upper().startswith("LIST") or "%" in name:
        raise BadCase(REASON, "its values stand in several files")
    if skip < -1:
        raise BadCase(REASON, f"skips {skip} bytes")
    return Grid(
        sizes=sizes[:3],
        dtype=_dtype(fields),
        directions=directions,
        spacings=tuple(abs(spacing) for spacing in spacings[:3]),
        origin=origin,
        stated=stated if size_text in fields else "",
        packing="zlib" if _is_true(fields, "CompressedData") else "raw",
        data_file=None if local else name,
        start=start if local else skip,
    )


def _fields(data: bytes) -> tuple[dict[str, str], int]:
    """Return the fields and where the values begin; the last field is always ElementDataFile."""
    fields: dict[str, str] = {}
    at = 0
    while at < min(len(data), MAX_HEADER_BYTES):
        end = data.find(b"\n", at, MAX_HEADER_BYTES)
        line = data[at : end if end >= 0 else min(len(data), MAX_HEADER_BYTES)]
        name, equals, value = line.partition(b"=")
        if not equals:
            break
        at = end + 1
        fields[_text(name)] = _text(value)
        if _text(name) == "ElementDataFile" and fields["ElementDataFile"]:
            return fields, at if end >= 0 else len(data)
        if end < 0:
            break
    raise BadCase(REASON, "the header does not end with the field ElementDataFile")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip()


def _is_true(fields: Mapping[str, str], name: str) -> bool | None:
    return fields[name][:1].upper() in ("T", "1") if fields.get(name) else None


def _dtype(fields: Mapping[str, str]) -> np.dtype:
    code = _TYPES.get(fields.get("ElementType", ""))
    if code is None:
        raise BadCase(REASON, "the type of its values is none that can be read")
    big = _is_true(fields, "BinaryDataByteOrderMSB") or _is_true(fields, "ElementByteOrderMSB")
    return np.dtype((">" if big else "<") + code)


def _placed(
    fields: Mapping[str, str], n: int, spacings: list[float]
) -> tuple[np.ndarray | None, np.ndarray, str]:
    """Return steps (3, axes) and origin in LPS mm; the matrix holds one axis after the other."""
    names = ("TransformMatrix", "Rotation", "Orientation")
    matrix = next((fields[name] for name in names if name in fields), None)
    places = ("Offset", "Position", "Origin")
    offset = next((fields[name] for name in places if name in fields), None)
    origin = np.zeros(3)
    if offset is not None:
        origin[: min(n, 3)] = numbers(offset, n, float, REASON)[:3]
    if n == 2 or matrix is None:
        # A matrix of two axes turns a picture in its own plane, not in the patient.
        return None, origin, "ElementSpacing"
    axes = np.array(numbers(matrix, n * n, float, REASON)).reshape(n, n)[:3, :3]
    return (axes * np.array(spacings[:3])[:, None]).T, origin, "TransformMatrix"
