"""DICOM headers of hostile files: recognised by content, read up to the pixels, checked."""

import math
import os
import re
import struct
import zlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import dcmread, read_dataset
from pydicom.uid import UID

from tasks.archive.elements import Elements, ScannedElements, quiet
from tasks.archive.pixel_extent import check_pixels
from tasks.archive.scan import PIXEL_HEAD, WANTED, Scanner
from tasks.errors import BadCase

DEFLATED = "1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR Little Endian (PS3.5 A.5): the data set itself is a zlib stream."""

MAX_INFLATED_BYTES = 256 << 20
"""A deflated file may unpack to this much; 300 kB can hold 300 MB, which pydicom would unpack."""

MAX_NESTING = 32
"""Sequences inside sequences; real objects stay below ten, a bomb needs some 200 levels."""

UID_TEXT = re.compile(r"[0-9]+(\.[0-9]+)+")
"""PS3.5 section 9 without its ban on leading zeros, which real archives break."""

FIRST_BYTES = 8192
"""Read of a file first: the headers of most images end before, at their pixels."""

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
_UNDEFINED = b"\xff\xff\xff\xff"
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT"}


class Header(NamedTuple):
    """What a file says about itself; identified, so it never leaves the archive wing."""

    sop_class: str
    sop_uid: str
    series_uid: str
    """Empty when the header has none; so is study_uid."""
    study_uid: str
    patient_id: str
    issuer: str
    accession: str
    position: float | None
    """Along the normal of the slice, mm (image position projected on row x column)."""
    elements: Elements
    """At least the wanted ones of those before the pixels."""

    def __repr__(self) -> str:
        return f"Header(sop_class={self.sop_class!r}, position={self.position!r})"


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


def read_header(source: bytes | str | Path, scanner: Scanner | None = None) -> Header:
    """Read the header of a DICOM file without its pixels.

    The bytes are walked by `tasks.archive.scan`; what that finds odd is read by pydicom.  Both
    give the same header or the same refusal.

    Parameters
    ----------
    source : bytes or path
        The whole file: that the pixels are all there is checked as well. Of a path only the first
        bytes are read where they are enough to tell.
    scanner : Scanner, optional
        One for many files of an archive is faster, since it remembers what they share.

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
    scanner = scanner or Scanner()
    if isinstance(source, bytes):
        return _scanned(source, len(source), scanner) or read_header_with_pydicom(source)
    # Descriptors, because the objects of `open` cost as much as the scan.
    descriptor = os.open(source, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        found = _scanned(os.pread(descriptor, FIRST_BYTES, 0), size, scanner)
        if found is not None:
            return found
        with open(descriptor, "rb", closefd=False) as stream:
            data = stream.read()
    finally:
        os.close(descriptor)
    return _scanned(data, len(data), scanner) or read_header_with_pydicom(data)


def _scanned(data: bytes, size: int, scanner: Scanner) -> Header | None:
    """Return the header of a file as a scan sees it, None when it is for pydicom to read.

    `data` are the first bytes of the file or all of its `size`.
    """
    found = scanner.scan(data)
    if found is None:
        return None
    values, meta, syntax, implicit, end = found
    if len(data) != size and _UNDEFINED in data[end + 4 : end + PIXEL_HEAD]:
        # Fragments, or native pixels that look like them: where they end only all bytes tell.
        return None
    elements = ScannedElements(values, WANTED, implicit, syntax, meta)
    return _judged(elements, data, end, size)


def read_header_with_pydicom(data: bytes) -> Header:
    """Read a header by pydicom alone; as `read_header`, fifty times as slow."""
    if not data:
        raise BadCase("empty_file", "the file has no content")
    if not is_dicom(data):
        raise BadCase("not_dicom", "neither the DICOM mark nor a first element of a data set")
    with quiet():
        try:
            dataset, body, end = _parse(data)
            header = _judged(Elements(dataset), body, end, len(body))
            _check_nesting(dataset)
            return header
        except BadCase:
            raise
        except (RecursionError, MemoryError):
            raise BadCase("nested_too_deep", "sequences nested beyond any real object") from None
        except (EOFError, struct.error):
            raise BadCase("truncated", "the file ends inside its header: send it again") from None
        except Exception as error:
            # A hostile file can make a parser raise anything; the message may hold a value.
            raise BadCase("unreadable_header", f"pydicom: {type(error).__name__}") from None


def _judged(elements: Elements, body: bytes, end: int, size: int) -> Header:
    """Return the header, or refuse what cannot be grouped, is no image or is not whole."""
    sop_class = elements.text(0x00080016) or elements.meta_text(0x00020002)
    if sop_class == DICOMDIR or 0x00041220 in elements:
        raise BadCase("dicomdir", "an index of files, not an image")
    _require_uid(sop_class, "sop_class")
    _refuse_other_objects(sop_class)
    sop_uid = elements.text(0x00080018) or elements.meta_text(0x00020003)
    series_uid, study_uid = elements.text(0x0020000E), elements.text(0x0020000D)
    _require_uid(sop_uid, "sop_uid")
    for value, name in ((series_uid, "series_uid"), (study_uid, "study_uid")):
        # Without one the folder says what belongs together: see `nameless`.
        if value:
            _require_uid(value, name)
    check_pixels(elements, sop_class, body, end, size)
    text = elements.text
    patient_id, issuer, accession = text(0x00100020), text(0x00100021), text(0x00080050)
    position = _position(elements)
    return Header(
        sop_class, sop_uid, series_uid, study_uid, patient_id, issuer, accession, position, elements
    )


def _parse(data: bytes) -> tuple[Dataset, bytes, int]:
    """Return the elements before the pixels, the bytes they stand in and where they end."""
    syntax, start = _meta_syntax(data)
    if syntax != DEFLATED:
        stream = BytesIO(data)
        dataset = dcmread(stream, stop_before_pixels=True, force=True)
        # Headers of a batch are kept for a while; each would keep its whole file.
        dataset.buffer = None
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


@lru_cache(maxsize=4096)
def _is_uid(value: str) -> bool:
    return len(value) <= MAX_UID_LENGTH and UID_TEXT.fullmatch(value) is not None


def _require_uid(value: str, name: str) -> None:
    if not value:
        raise BadCase(f"missing_{name}", "the header does not name it, so nothing can be grouped")
    if not _is_uid(value):
        raise BadCase(
            f"invalid_{name}", "not digits and dots, at most 64 characters (PS3.5 section 9)"
        )


@lru_cache(maxsize=256)
def _is_image(sop_class: str) -> bool:
    return sop_class.startswith("1.2.840.10008.5.1.4.") and not sop_class.startswith(_NOT_IMAGES)


def _refuse_other_objects(sop_class: str) -> None:
    if not _is_image(sop_class):
        with quiet():
            name = UID(sop_class).name
        shown = "a private or unknown SOP class" if name == sop_class else name
        raise BadCase("not_an_image", shown)


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
