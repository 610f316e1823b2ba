"""Whole images damaged on their way to voxels, by a seeded generator: one number, one file."""

import random
import struct
from collections.abc import Callable

from tests.archive import mutations
from tests.archive.whole_images import ENCODERS, TOKEN, Whole, deflated, wholes

PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")

SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.110", "1.2.3.4", TOKEN, "", *ENCODERS,
)  # fmt: skip
"""What a file may claim to be: all that is read, video, JPEG XL, and what is no syntax at all."""

LIES: dict[tuple[int, int], tuple[int, ...]] = {
    (0x0028, 0x0002): (0, 1, 2, 3, 4, 65535),  # samples per pixel
    (0x0028, 0x0006): (0, 1, 2, 65535),  # planar configuration
    (0x0028, 0x0010): (0, 1, 8, 23, 25, 48, 4096, 65535),  # rows
    (0x0028, 0x0011): (0, 1, 8, 19, 21, 40, 4096, 65535),  # columns
    (0x0028, 0x0100): (0, 1, 8, 12, 16, 32, 64, 65535),  # bits allocated
    (0x0028, 0x0101): (0, 1, 8, 12, 16, 17, 65535),  # bits stored
    (0x0028, 0x0102): (0, 7, 11, 15, 16, 31, 65535),  # high bit
    (0x0028, 0x0103): (0, 1, 2, 65535),  # pixel representation
    (0x0028, 0x0120): (0, 1, 32767, 65535),  # padding value
}
"""Elements of unsigned shorts that say how pixels lie, and values to lie with."""

WORDS: dict[tuple[int, int], tuple[str, ...]] = {
    (0x0028, 0x0004): ("MONOCHROME1", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "YBR_RCT",
                       "ARGB", "CMYK", TOKEN),
    (0x0028, 0x0008): ("0", "1", "2", "5", "-1", "4096", "2147483647", "1e3", "x", TOKEN),
    (0x0028, 0x0030): ("0\\0", "-1\\1", "1e308\\1e-308", "nan\\inf", "1", "1\\2\\3", TOKEN),
    (0x0028, 0x1050): ("nan", "1e308", "1\\2", TOKEN),
    (0x0028, 0x1051): ("0", "-5", "1e-320", "1e308", TOKEN),
    (0x0028, 0x1052): ("nan", "1e308", "-1e308", "1\\2", "99999999999", TOKEN),
    (0x0028, 0x1053): ("0", "nan", "1e308", "1e-308", "-1", "123456789012", TOKEN),
    (0x0020, 0x0032): ("0\\0", "1e308\\1e308\\1e308", "nan\\0\\0", "a\\b\\c", TOKEN),
    (0x0020, 0x0037): ("0\\0\\0\\0\\0\\0", "1\\0\\0\\1\\0\\0", "1e200\\0\\0\\0\\1e200\\0", TOKEN),
    (0x0008, 0x0008): ("ORIGINAL\\PRIMARY\\LOCALIZER", "DERIVED\\PRIMARY\\MOSAIC", TOKEN),
    (0x0008, 0x0060): ("CT", "MR", "PT", "DX", "US", "OT", "SEG", "SR", "", TOKEN),
    (0x0008, 0x0016): ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.7",
                       "1.2.840.10008.5.1.4.1.1.2.1", TOKEN),
    (0x0008, 0x0005): ("ISO_IR 192", "ISO 2022 IR 87", "GB18030", "ISO_IR 999", TOKEN),
}  # fmt: skip
"""Elements of text that decide what becomes of the pixels, and values to lie with."""

LENGTHS = (0, 1, 2, 7, 8, 9, 64, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

Mutation = Callable[[bytearray, random.Random], None]


def damaged(number: int, among: tuple[Whole, ...] | None = None) -> bytes:
    """Return the damaged file of a number: one to four damages, UIDs of its own."""
    rng = random.Random(f"pixels {number}")
    whole = rng.choice(among or wholes())
    data = bytearray(whole.numbered(number))
    start = 144 + struct.unpack_from("<I", data, 140)[0]
    if whole.deflated and rng.random() < 0.3:
        # The stream itself is hit; else what comes out of it.
        data = bytearray(deflated(bytes(data), start))
        whole = Whole(whole.name, bytes(data))
    for _ in range(rng.choice((1, 1, 2, 4))):
        if data:
            # The header fuzzer has had its share: most of these damages let the header pass.
            rng.choice(PIXEL_MUTATIONS if rng.random() < 0.75 else HEADER_MUTATIONS)(data, rng)
    return deflated(bytes(data), start) if whole.deflated else bytes(data)


def _pixels(data: bytearray) -> int:
    """Return where the element with the pixels begins, else the middle."""
    return max((data.find(tag, 132) for tag in PIXEL_TAGS), default=-1) % max(len(data), 1)


def _in_pixels(data: bytearray, rng: random.Random) -> int:
    return rng.randrange(min(_pixels(data), len(data) - 1), len(data))


def _fragments(data: bytearray) -> list[tuple[int, int]]:
    """Return (offset, length) of the items of encapsulated pixels, the offset table first."""
    at, found = _pixels(data) + 12, []
    while data[at : at + 4] == b"\xfe\xff\x00\xe0" and at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        found.append((at, length))
        at += 8 + length
    return found


def _element(data: bytearray, tag: tuple[int, int]) -> tuple[int, str]:
    """Return where an element begins, -1 when it is not there, and the byte order."""
    for order in "<>":
        at = data.find(struct.pack(f"{order}HH", *tag), 0, _pixels(data))
        if at >= 0:
            return at, order
    return -1, "<"


def _some_present(
    data: bytearray, tags: list[tuple[int, int]], rng: random.Random
) -> tuple[int, int]:
    return rng.choice([tag for tag in tags if _element(data, tag)[0] >= 0] or tags)


def _set_value(data: bytearray, at: int, order: str, value: bytes) -> None:
    """Give the element at a place another value, its length told truly."""
    value += b" " * (len(value) % 2)
    explicit = bytes(data[at + 4 : at + 6]) in mutations.VRS and data[at + 4 : at + 6].isalpha()
    head, form = (6, "H") if explicit else (4, "I")
    if at + 8 > len(data) or len(value) > 0xFFFF:
        return
    (length,) = struct.unpack_from(f"{order}{form}", data, at + head)
    data[at + 8 : at + 8 + length] = value
    struct.pack_into(f"{order}{form}", data, at + head, len(value))


def lie_about_pixels(data: bytearray, rng: random.Random) -> None:
    """Let a number that says how pixels lie say something else."""
    tag = _some_present(data, sorted(LIES), rng)
    at, order = _element(data, tag)
    if 0 <= at <= len(data) - 10:
        struct.pack_into(f"{order}H", data, at + 8, rng.choice(LIES[tag]))


def lie_in_words(data: bytearray, rng: random.Random) -> None:
    """Give an element that decides about pixels another text."""
    tag = _some_present(data, sorted(WORDS), rng)
    at, order = _element(data, tag)
    if at >= 0:
        _set_value(data, at, order, rng.choice(WORDS[tag]).encode())


def swap_syntax(data: bytearray, rng: random.Random) -> None:
    """Claim another transfer syntax."""
    at = data.find(b"\x02\x00\x10\x00UI", 0, 1000)
    if at >= 0:
        uid = rng.choice(SYNTAXES).encode()
        _set_value(data, at, "<", uid + bytes(len(uid) % 2))


def plant(data: bytearray, rng: random.Random) -> None:
    """Put a name where a code belongs."""
    places = [at for at in mutations._elements(data) if at >= 132]
    if places:
        _set_value(data, rng.choice(places), "<", TOKEN.encode() * rng.choice((1, 2, 9)))


def damage_stream(data: bytearray, rng: random.Random) -> None:
    """Write other bytes into the pixels, most often near the beginning of a stream."""
    items = _fragments(data)[1:]
    for _ in range(rng.choice((1, 1, 3, 20))):
        if items and rng.random() < 0.7:
            at, length = rng.choice(items)
            place = at + 8 + rng.randrange(max(min(length, 120), 1))
        else:
            place = _in_pixels(data, rng)
        if place < len(data):
            data[place] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))


def cut_stream(data: bytearray, rng: random.Random) -> None:
    """Take bytes out of a fragment, whose item then tells the true length; its end may stay."""
    items = _fragments(data)[1:]
    if not items:
        del data[_in_pixels(data, rng) :]
        return
    at, length = rng.choice(items)
    if at + 8 + length <= len(data) and length > 4:
        begin = rng.randrange(length - 2)
        gone = min(2 * rng.randint(1, length // 2), length - begin - rng.choice((0, 2)))
        del data[at + 8 + begin : at + 8 + begin + gone]
        struct.pack_into("<I", data, at + 4, length - gone)


def lie_about_fragment(data: bytearray, rng: random.Random) -> None:
    """Let a fragment, or Pixel Data itself, claim another length."""
    items = _fragments(data)
    at = rng.choice(items)[0] + 4 if items and rng.random() < 0.7 else _pixels(data) + 8
    if at + 4 <= len(data):
        (held,) = struct.unpack_from("<I", data, at)
        lie = rng.choice((*LENGTHS, held + 2, held - 2, held * 2))
        struct.pack_into("<I", data, at, lie % (1 << 32))


def lie_about_offsets(data: bytearray, rng: random.Random) -> None:
    """Let an offset table, basic or extended, point elsewhere, or give one to who had none."""
    at, _ = _element(data, (0x7FE0, rng.choice((1, 2))))
    if at >= 0 and at + 20 <= len(data):
        struct.pack_into("<Q", data, at + 12, rng.choice((0, 1, 8, 1 << 31, (1 << 64) - 1)))
        return
    items = _fragments(data)
    if not items:
        return
    at, length = items[0]
    if length and rng.random() < 0.7:
        place = at + 8 + 4 * rng.randrange(max(length // 4, 1))
        if place + 4 <= len(data):
            struct.pack_into("<I", data, place, rng.choice(LENGTHS))
    else:
        table = struct.pack("<II", 0, rng.choice(LENGTHS))
        data[at + 8 : at + 8 + length] = table
        struct.pack_into("<I", data, at + 4, len(table))


def shuffle_fragments(data: bytearray, rng: random.Random) -> None:
    """Drop a fragment, double one, or let two change places."""
    items = _fragments(data)
    if not items:
        return
    (a, m), (b, n) = sorted((rng.choice(items), rng.choice(items)))
    one, other = bytes(data[a : a + 8 + m]), bytes(data[b : b + 8 + n])
    kind = rng.randrange(3)
    if kind == 0:
        del data[a : a + 8 + m]
    elif kind == 1 or a == b:
        data[a:a] = one
    else:
        data[b : b + 8 + n] = one
        data[a : a + 8 + m] = other


def swap_elements(data: bytearray, rng: random.Random) -> None:
    """Let two elements change places, or one begin inside the other."""
    places = [at for at in mutations._elements(data) if at >= 132]
    if len(places) < 3:
        return
    k = rng.randrange(len(places) - 2)
    a, b, c = places[k : k + 3]
    if rng.random() < 0.5:
        data[a:c] = data[b:c] + data[a:b]
    else:
        length = data[a + 6] + 4 + 8
        data[a + 6 : a + 8] = struct.pack("<H", length & 0xFFFF)


def lie_in_stream(data: bytearray, rng: random.Random) -> None:
    """Let the size inside a JPEG or JPEG 2000 stream say something else, the header as well."""
    begin = _pixels(data)
    lie = rng.choice((0, 1, 25, 4096, 65535))
    if (at := data.find(b"\xff\x4f\xff\x51", begin)) >= 0:
        field = at + 8 + 4 * rng.randrange(8)
        if field + 4 <= len(data):
            struct.pack_into(">I", data, field, rng.choice((lie, 0xFFFFFFFF)))
    else:
        for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7"):
            at = data.find(marker, begin)
            if 0 <= at <= len(data) - 10:
                struct.pack_into(">H", data, at + rng.choice((5, 7)), lie)
                break
    if rng.random() < 0.5:
        at, order = _element(data, (0x0028, rng.choice((0x10, 0x11))))
        if 0 <= at <= len(data) - 10:
            struct.pack_into(f"{order}H", data, at + 8, lie)


HEADER_MUTATIONS: tuple[Mutation, ...] = (
    mutations.flip_bits, mutations.lie_about_length, mutations.swap_vr, mutations.cut,
    mutations.drop, mutations.repeat, mutations.swap_tag, swap_elements, plant,
)  # fmt: skip

PIXEL_MUTATIONS: tuple[Mutation, ...] = (
    lie_about_pixels, lie_in_words, swap_syntax, damage_stream, damage_stream, cut_stream,
    lie_about_fragment, lie_about_offsets, shuffle_fragments, lie_in_stream,
)  # fmt: skip
