"""Damaged DICOM, made from whole files by a seeded generator: the same seed, the same bytes."""

import random
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pydicom.data

from tasks.archive.headers import read_header
from tasks.errors import BadCase
from tests.archive.made_dicom import deflated, header, nested, slice_file, without_preamble

MAX_SEED_BYTES = 40_000
"""Larger examples would spend the time on pixels; it is the headers that are damaged."""

VRS = (b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OW PN SH SL SQ SS ST TM UC UI UL UN "
       b"UR US UT ZZ \0\0").split(b" ")  # fmt: skip

LENGTHS = (0, 1, 2, 7, 0x7FFF, 0xFFFE, 0xFFFF)
LONG_LENGTHS = (0, 1, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@cache
def seeds() -> tuple[bytes, ...]:
    """Whole files to damage: our own forms and the small ones that pydicom ships."""
    made = [
        slice_file(1),
        without_preamble(header(2)),
        deflated(header(3)),
        nested(3),
        slice_file(4, SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg"),
    ]
    # Only what the package itself brings: asking pydicom for more would ask the network.
    shipped = sorted((Path(pydicom.data.__file__).parent / "test_files").rglob("*.dcm"))
    small = [path.read_bytes() for path in shipped if path.stat().st_size <= MAX_SEED_BYTES]
    return (*made, *filter(_is_whole, small))


def _is_whole(data: bytes) -> bool:
    """Tell files that are taken in: damage to one that is refused anyway shows nothing."""
    try:
        read_header(data)
    except BadCase:
        return False
    return True


def mutated(number: int) -> bytes:
    """Return the damaged file of a number; one to four damages each."""
    rng = random.Random(number)
    data = bytearray(rng.choice(seeds()))
    for _ in range(rng.choice((1, 1, 2, 4))):
        if data:
            rng.choice(MUTATIONS)(data, rng)
    return bytes(data)


def _elements(data: bytearray) -> list[int]:
    """Offsets of what looks like elements with explicit VR."""
    known = {vr for vr in VRS if vr.isalpha() and vr != b"ZZ"}
    head = min(len(data) - 8, 4096)
    return [at for at in range(max(head, 0)) if bytes(data[at + 4 : at + 6]) in known]


def _at(data: bytearray, rng: random.Random) -> int:
    """A place, mostly in the header."""
    end = min(len(data), 2048) if rng.random() < 0.8 else len(data)
    return rng.randrange(end)


def flip_bits(data: bytearray, rng: random.Random) -> None:
    """Turn one to eight bits."""
    for _ in range(rng.randint(1, 8)):
        data[_at(data, rng)] ^= 1 << rng.randrange(8)


def lie_about_length(data: bytearray, rng: random.Random) -> None:
    """Let an element claim another length."""
    places = _elements(data)
    if not places:
        at = rng.randrange(len(data))
        data[at : at + 4] = struct.pack("<I", rng.choice(LONG_LENGTHS))
        return
    at = rng.choice(places)
    if bytes(data[at + 4 : at + 6]) in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        data[at + 8 : at + 12] = struct.pack("<I", rng.choice(LONG_LENGTHS))
    else:
        data[at + 6 : at + 8] = struct.pack("<H", rng.choice(LENGTHS))


def swap_vr(data: bytearray, rng: random.Random) -> None:
    """Give an element another value representation."""
    places = _elements(data)
    if places:
        at = rng.choice(places)
        data[at + 4 : at + 6] = rng.choice(VRS)[:2].ljust(2, b"\0")


def cut(data: bytearray, rng: random.Random) -> None:
    """End the file early."""
    del data[_at(data, rng) :]


def drop(data: bytearray, rng: random.Random) -> None:
    """Leave some bytes out."""
    at = _at(data, rng)
    del data[at : at + rng.randint(1, 40)]


def repeat(data: bytearray, rng: random.Random) -> None:
    """Write some bytes twice."""
    at = _at(data, rng)
    data[at:at] = data[at : at + rng.randint(1, 200)]


def swap_tag(data: bytearray, rng: random.Random) -> None:
    """Give an element another tag: delimiters, groups of their own, pixels before their time."""
    places = _elements(data)
    if places:
        at = rng.choice(places)
        tags = (0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x7FE00010, 0x00080005, 0x00020010, 0)
        tag = rng.choice(tags)
        data[at : at + 4] = struct.pack("<HH", tag >> 16, tag & 0xFFFF)


def splice(data: bytearray, rng: random.Random) -> None:
    """Put a piece of another file in."""
    other = rng.choice(seeds())
    begin = rng.randrange(len(other))
    at = _at(data, rng)
    data[at:at] = other[begin : begin + rng.randint(1, 400)]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits, lie_about_length, swap_vr, cut, drop, repeat, swap_tag, splice,
)  # fmt: skip
