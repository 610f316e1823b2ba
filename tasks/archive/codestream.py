"""Size written inside a compressed frame, read before a native decoder is let at it.

A damaged or hostile stream may state a size of its own, for which the decoder would allocate and
work for minutes; nothing interrupts native code.
"""

from tasks.errors import BadCase

MAX_TILES = 4096
"""JPEG 2000 tiles of one frame: more make OpenJPEG crawl; 64 x 64 tiles of 128 px suffice."""

_SIZ = b"\xff\x4f\xff\x51"
_SIZ_REACH = 4096
_NO_FRAME = {0xC4, 0xC8, 0xCC}
_STANDALONE = {0x01, *range(0xD0, 0xD9)}


def check_stream(
    frame: bytes | memoryview, rows: int, columns: int, samples: int, *, jpeg_2000: bool
) -> None:
    """Compare the stream's own size with what the DICOM header says.

    Raises
    ------
    BadCase
        ``undecodable`` when they differ or the stream states no size.
    """
    found = _jpeg_2000_size(frame) if jpeg_2000 else _jpeg_size(frame)
    if found != (rows, columns, samples):
        raise BadCase(
            "undecodable",
            f"the stream holds {found} rows, columns, samples; the header {rows, columns, samples}",
        )


def _jpeg_2000_size(frame: bytes | memoryview) -> tuple[int, int, int] | None:
    """Read the SIZ segment (ISO 15444-1 A.5.1)."""
    start = bytes(frame[:_SIZ_REACH]).find(_SIZ)
    if start < 0 or len(frame) < start + 42:
        return None
    x1, y1, x0, y0, tile_x, tile_y, *_ = (
        int.from_bytes(frame[start + 8 + 4 * k : start + 12 + 4 * k], "big") for k in range(8)
    )
    if not tile_x or not tile_y or -(-x1 // tile_x) * -(-y1 // tile_y) > MAX_TILES:
        raise BadCase("undecodable", f"more than {MAX_TILES} JPEG 2000 tiles in one frame")
    samples = int.from_bytes(frame[start + 40 : start + 42], "big")
    return y1 - y0, x1 - x0, samples


def _jpeg_size(frame: bytes | memoryview) -> tuple[int, int, int] | None:
    """Read the start-of-frame segment of JPEG (T.81 B.2.2) and JPEG-LS (T.87 C.2.2)."""
    place = 2
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME):
            rows = int.from_bytes(frame[place + 5 : place + 7], "big")
            columns = int.from_bytes(frame[place + 7 : place + 9], "big")
            return rows, columns, frame[place + 9]
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None
