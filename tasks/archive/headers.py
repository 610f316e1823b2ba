"""DICOM headers of hostile files: recognised by content, read up to the pixels, checked."""

import math
import re
import struct
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import dcmread, read_dataset
from pydicom.uid import UID

from tasks.archive.elements import Elements, quiet
from tasks.errors import BadCase

DEFLATED = "1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR Little Endian (PS3.5 A.5): the data set itself is a zlib stream."""

MAX_INFLATED_BYTES = 256 << 20
"""A deflated file may unpack to this much; 300 kB can hold 300 MB, which pydicom would unpack."""

MAX_NESTING = 32
"""Sequences inside sequences; real objects stay below ten, a bomb needs some 200 levels."""

UID_TEXT = re.compile(r"[0-9]+(\.[0-9]+)+")
"""PS3.5 section 9 without its ban on leading zeros, which real archives break."""

MAX_UID_LENGTH = 64
"""PS3.5 section 9.1."""

DICOMDIR = "1.2.840.10008.1.3.10"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NOT_IMAGES = tuple(
    _STORAGE + root
    for root in (
        "11.",  # presentation states
        "88.",  # structured reports, key objects
        "9.",  # waveforms
        "104.",  # encapsulated documents
        "66",  # raw data, registrations, fiducials, segmentations, surfaces
        "67",  # real world value mapping
        "481.2",  # dose, structure sets, plans, treatment records (481.1 is an RT image)
        "481.3",
        "481.4",
        "481.5",
        "481.6",
        "481.7",
        "481.8",
        "481.9",
        "30",  # parametric map
        "4.2",  # spectroscopy
        "77.1.5.3",  # stereometric relationship
    )
)
"""Objects without pixels of a patient, or whose pixels are somebody's result (PS3.4 B.5)."""

_VRS = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"OB",
    b"OD", b"OF", b"OL", b"OV", b"OW", b"PN", b"SH", b"SL", b"SQ", b"SS", b"ST", b"SV", b"TM",
    b"UC", b"UI", b"UL", b"UN", b"UR", b"US", b"UT", b"UV",
}  # fmt: skip
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT"}
_PIXELS = {b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00"}
_PIXELS_BIG = {b"\x7f\xe0\x00\x10", b"\x7f\xe0\x00\x08", b"\x7f\xe0\x00\x09"}
_ITEM, _ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Header:
    """What a file says about itself; identified, so it never leaves the archive wing."""

    sop_class: str
    sop_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    """Empty when the header has none; so is study_uid."""
    study_uid: str = field(repr=False)
    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    accession: str = field(repr=False)
    position: float | None
    """Along the normal of the slice, mm (image position projected on row x column)."""
    dataset: Dataset = field(repr=False)
    """All elements before the pixels."""


def is_dicom(data: bytes) -> bool:
    """Tell DICOM by content: a preamble with its mark, or a plausible first element without."""
    if data[128:132] == b"DICM":
        return True
    if len(data) < 16:
        return False
    group = data[:2]
    if data[4:6] in _VRS:
        return group in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
    # Implicit VR: an element of group 8 that ends inside the file, with another one after it.
    length = int.from_bytes(data[4:8], "little")
    following = data[8 + length : 10 + length]
    return group == b"\x08\x00" and length < len(data) - 16 and following == b"\x08\x00"


def read_header(source: bytes | str | Path) -> Header:
    """Read the header of a DICOM file without its pixels.

    Parameters
    ----------
    source : bytes or path
        The whole file: that the pixels are all there is checked as well.

    Returns
    -------
    Header

    Raises
    ------
    BadCase
        ``not_dicom``, ``dicomdir``, ``not_an_image``, ``unreadable_header``, ``nested_too_deep``,
        ``decompression_bomb``, ``missing_<element>``, ``invalid_<element>``, ``no_pixel_data`` or
        ``truncated``. No detail repeats a value of the header.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not data:
        raise BadCase("empty_file", "the file has no content")
    if not is_dicom(data):
        raise BadCase("not_dicom", "neither the DICOM mark nor a first element of a data set")
    with quiet():
        try:
            return _read(data)
        except BadCase:
            raise
        except (RecursionError, MemoryError):
            raise BadCase("nested_too_deep", "sequences nested beyond any real object") from None
        except (EOFError, struct.error):
            raise BadCase("truncated", "the file ends inside its header: send it again") from None
        except Exception as error:
            # A hostile file can make a parser raise anything; the message may hold a value.
            raise BadCase("unreadable_header", f"pydicom: {type(error).__name__}") from None


def _read(data: bytes) -> Header:
    dataset, body, end = _parse(data)
    elements, meta = Elements(dataset), Elements(getattr(dataset, "file_meta", None))
    sop_class = elements.text(0x00080016) or meta.text(0x00020002)
    if sop_class == DICOMDIR or 0x00041220 in elements:
        raise BadCase("dicomdir", "an index of files, not an image")
    _require_uid(sop_class, "sop_class")
    _refuse_other_objects(sop_class)
    sop_uid = elements.text(0x00080018) or meta.text(0x00020003)
    series_uid, study_uid = elements.text(0x0020000E), elements.text(0x0020000D)
    _require_uid(sop_uid, "sop_uid")
    for value, name in ((series_uid, "series_uid"), (study_uid, "study_uid")):
        # Without one the folder says what belongs together: see `nameless`.
        if value:
            _require_uid(value, name)
    _check_pixels(elements, sop_class, body, end)
    _check_nesting(dataset)
    return Header(
        sop_class=sop_class,
        sop_uid=sop_uid,
        series_uid=series_uid,
        study_uid=study_uid,
        patient_id=elements.text(0x00100020),
        issuer=elements.text(0x00100021),
        accession=elements.text(0x00080050),
        position=_position(elements),
        dataset=dataset,
    )


def _parse(data: bytes) -> tuple[Dataset, bytes, int]:
    """Return the elements before the pixels, the bytes they stand in and where they end."""
    syntax, start = _meta_syntax(data)
    if syntax != DEFLATED:
        stream = BytesIO(data)
        dataset = dcmread(stream, stop_before_pixels=True, force=True)
        return dataset, data, stream.tell()
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    body = unpacker.decompress(data[start:], MAX_INFLATED_BYTES)
    if unpacker.unconsumed_tail:
        raise BadCase(
            "decompression_bomb", f"the deflated data set exceeds {MAX_INFLATED_BYTES} bytes"
        )
    stream = BytesIO(body)
    dataset = read_dataset(stream, False, True, stop_when=_at_pixels)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(DEFLATED)
    return dataset, body, stream.tell()


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag in (0x7FE00010, 0x7FE00009, 0x7FE00008)


def _meta_syntax(data: bytes) -> tuple[str, int]:
    """Return the transfer syntax of the file meta group (PS3.10 7.1) and where the group ends.

    Read by hand, because pydicom unpacks a deflated data set while it reads the group.
    """
    at = 132 if data[128:132] == b"DICM" else 0
    syntax = ""
    while data[at : at + 2] == b"\x02\x00" and at + 8 <= len(data):
        element, vr = data[at + 2 : at + 4], data[at + 4 : at + 6]
        if vr in _LONG_VRS:
            length, value = int.from_bytes(data[at + 8 : at + 12], "little"), at + 12
        else:
            length, value = int.from_bytes(data[at + 6 : at + 8], "little"), at + 8
        if element == b"\x10\x00":
            syntax = data[value : value + length].rstrip(b"\0 ").decode("ascii", "replace")
        at = value + length
    return syntax, at


def _require_uid(value: str, name: str) -> None:
    if not value:
        raise BadCase(f"missing_{name}", "the header does not name it, so nothing can be grouped")
    if len(value) > MAX_UID_LENGTH or not UID_TEXT.fullmatch(value):
        raise BadCase(
            f"invalid_{name}", "not digits and dots, at most 64 characters (PS3.5 section 9)"
        )


def _refuse_other_objects(sop_class: str) -> None:
    if sop_class.startswith(_NOT_IMAGES) or not sop_class.startswith("1.2.840.10008.5.1.4."):
        name = UID(sop_class).name
        shown = "a private or unknown SOP class" if name == sop_class else name
        raise BadCase("not_an_image", shown)


def _check_pixels(elements: Elements, sop_class: str, body: bytes, end: int) -> None:
    """Refuse a file that was cut: its elements parse without an error all the same."""
    tag = body[end : end + 4]
    if tag in _PIXELS:
        start, length = _element_length(body, end)
        if length == _UNDEFINED:
            length = _fragments_length(body, start)
        if start + length > len(body):
            raise BadCase("truncated", "the file ends inside its pixel data: send it again")
    elif tag in _PIXELS_BIG:
        # Explicit VR big endian: OW or OB with two reserved bytes (PS3.5 7.1.2).
        (length,) = struct.unpack(">I", body[end + 8 : end + 12])
        if end + 12 + length > len(body):
            raise BadCase("truncated", "the file ends inside its pixel data: send it again")
    else:
        name = UID(sop_class).name
        raise BadCase("no_pixel_data", f"{name}: the header ends without pixels (cut or removed)")
    if not (elements.number(0x00280010) and elements.number(0x00280011)):
        raise BadCase("missing_matrix", "rows or columns are missing or 0")


def _element_length(body: bytes, at: int) -> tuple[int, int]:
    """Return where the value of the element at `at` begins, and its length."""
    explicit = body[at + 4 : at + 6] in (b"OB", b"OW", b"OF", b"OD", b"UN")
    head = 12 if explicit else 8
    if at + head > len(body):
        raise BadCase("truncated", "the file ends at its pixel data: send it again")
    return at + head, int.from_bytes(body[at + head - 4 : at + head], "little")


def _fragments_length(body: bytes, start: int) -> int:
    """Return the length of encapsulated pixel data (PS3.5 A.4), or one past the end if cut."""
    at = start
    while body[at : at + 4] == _ITEM:
        at += 8 + int.from_bytes(body[at + 4 : at + 8], "little")
    # The closing delimiter may be lost at the very end of old files; the fragments are whole then.
    closed = body[at : at + 4] == _ITEM_END or at == len(body)
    return at - start if closed else len(body)


def _check_nesting(dataset: Dataset) -> None:
    level = [dataset]
    for _ in range(MAX_NESTING):
        level = [item for outer in level for item in _items(outer)]
        if not level:
            return
    raise BadCase("nested_too_deep", f"more than {MAX_NESTING} sequences inside each other")


def _items(dataset: Dataset) -> list[Dataset]:
    # VRs are looked at without converting values, which would cost most of the reading time.
    items: list[Dataset] = []
    for tag, raw in dataset.items():
        if raw.VR == "SQ":
            items.extend(dataset[tag].value or ())
    return items


def _position(elements: Elements) -> float | None:
    """Return the position along the slice's normal in mm (PS3.3 C.7.6.2.1.1)."""
    corner, cosines = elements.numbers(0x00200032, 3), elements.numbers(0x00200037, 6)
    if corner is None or cosines is None:
        return None
    (x, y, z), (a, b, c, d, e, f) = corner, cosines
    position = x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d)
    # Finite numbers may multiply to infinity, which cannot be ordered.
    return position if math.isfinite(position) else None
