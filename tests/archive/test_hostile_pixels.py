"""Hostile pixels: what lies about its size, ends early or names somebody where a code belongs."""

import struct
import time

import numpy as np
import pytest
from pydicom.encaps import encapsulate

from tasks.archive.codecs import JPEG, JPEG_2000, JPEG_LS
from tasks.archive.headers import read_header
from tasks.archive.orders import OrderCase
from tasks.archive.sources import FileRef
from tasks.archive.volume import Volume, read_volume
from tasks.errors import BadCase
from tasks.imaging.recipe import FittedRecipe
from tasks.store.fill import prepare_case
from tasks.store.write import write_part
from tests.archive.made_dicom import encode, header
from tests.archive.whole_images import ENCODERS, LS, TOKEN, noise, wholes

WHOLE = {whole.name: whole.data for whole in wholes()}
LONGEST = 10
"""Seconds that no file may take, whatever it claims."""


def read(data: bytes, folder) -> Volume:
    (folder / "1").write_bytes(data)
    return read_volume("dicom", [FileRef(str(folder / "1"), None, "", len(data))])


def lie(data: bytes, element: int, value: int) -> bytes:
    """Let an unsigned short of group 0028 say something else."""
    at = data.index(struct.pack("<HH2sH", 0x0028, element, b"US", 2)) + 8
    return data[:at] + struct.pack("<H", value) + data[at + 2 :]


def stream_lie(data: bytes, syntax: str) -> bytes:
    """Let the stream itself claim 65535 x 65535 pixels."""
    damaged = bytearray(data)
    pixels = data.index(b"\xe0\x7f\x10\x00")
    if syntax in JPEG_2000:
        at = data.index(b"\xff\x4f\xff\x51", pixels) + 8
        struct.pack_into(">II", damaged, at, 65535, 65535)
        struct.pack_into(">II", damaged, at + 16, 65535, 65535)
    elif syntax in JPEG | JPEG_LS:
        starts = [data.find(bytes((0xFF, m)), pixels) for m in (0xC0, 0xC1, 0xC3, 0xF7)]
        struct.pack_into(">HH", damaged, min(s for s in starts if s >= 0) + 5, 65535, 65535)
    return bytes(damaged)


@pytest.mark.parametrize("syntax", sorted(ENCODERS))
def test_a_stream_that_claims_65535_squared_is_refused_at_once(tmp_path, syntax):
    # 1.7 kB of this kept a peer's decoder busy for a minute.
    data = lie(lie(WHOLE[syntax], 0x10, 65535), 0x11, 65535)
    began = time.monotonic()
    for claimed in (data, stream_lie(data, syntax), stream_lie(WHOLE[syntax], syntax)):
        if claimed == WHOLE[syntax]:
            continue
        with pytest.raises(BadCase) as error:
            read(claimed, tmp_path)
        assert error.value.reason in ("too_large", "undecodable")
    assert time.monotonic() - began < LONGEST


@pytest.mark.parametrize("syntax", sorted(ENCODERS))
@pytest.mark.parametrize("rows", [2000, 8000])
def test_a_size_just_below_the_limit_is_refused_when_the_stream_does_not_hold_it(
    tmp_path, syntax, rows
):
    data = lie(lie(WHOLE[syntax], 0x10, rows), 0x11, 2000)
    began = time.monotonic()
    with pytest.raises(BadCase, match=r"undecodable|truncated"):
        read(data, tmp_path)
    assert time.monotonic() - began < LONGEST


@pytest.mark.parametrize(
    "name", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "frame in fragments", "big endian"]
)
def test_an_image_cut_at_any_byte_is_refused_or_exact(tmp_path, name):
    data = WHOLE[name]
    truth = read(data, tmp_path).array
    exact = 0
    for at in range(len(data)):
        try:
            read_header(data[:at])
            found = read(data[:at], tmp_path).array
        except BadCase:
            continue
        np.testing.assert_array_equal(found, truth)
        exact += 1
    # Only what closes the pixels may lack: the sequence delimiter, and a byte of padding.
    assert exact <= 9


@pytest.mark.parametrize("keyword", ["Modality", "PhotometricInterpretation"])
@pytest.mark.parametrize("kind", ["CT", "DX"])
def test_a_name_where_a_term_belongs_is_told_nowhere(tmp_path, keyword, kind):
    ds = header(1, Modality=kind)
    setattr(ds, keyword, TOKEN.upper())
    try:
        volume = read(encode(ds), tmp_path)
        told = str((volume.facts, volume.certificate))
        assert volume.facts["modality"] == "other"
    except BadCase as problem:
        told = str(problem)
    assert TOKEN.upper() not in told


def test_a_name_where_the_transfer_syntax_belongs_is_told_nowhere(tmp_path):
    data = encode(header(1))
    syntax = b"UI\x14\x001.2.840.10008.1.2.1\0"
    damaged = data.replace(syntax, b"UI\x14\x00" + f"{TOKEN}^Jane".encode().ljust(20, b"\0"))
    assert damaged != data
    with pytest.raises(BadCase, match="no decoder for its transfer syntax") as error:
        read(damaged, tmp_path)
    assert TOKEN not in str(error.value)


def coded_slice(number: int, series: int, stream: bytes) -> bytes:
    """One JPEG-LS slice of 24 x 20 pixels."""
    ds = header(number, series=series, Rows=24, Columns=20, BitsStored=12, HighBit=11)
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return encode(ds, LS)


def test_a_damaged_slice_costs_its_own_case_and_no_other(tmp_path):
    stream = bytes(ENCODERS[LS](noise()))
    # The lengths of its items are true, so only the decoder can tell.
    damaged = stream[:200] + stream[230:]
    orders = {}
    for series, case_id in enumerate(("before", "damaged", "behind")):
        files = []
        for number in range(3):
            hit = case_id == "damaged" and number == 1
            path = tmp_path / f"{case_id}-{number}"
            path.write_bytes(coded_slice(number, series, damaged if hit else stream))
            files.append(FileRef(str(path), None, "", path.stat().st_size))
        orders[case_id] = OrderCase(case_id, "dicom", tuple(files), None)
    recipe = FittedRecipe(())
    record = write_part(
        str(tmp_path / "store"),
        "part",
        "image",
        "recipe",
        tuple(orders),
        lambda case_id: prepare_case(orders[case_id], recipe),
        dtype="float32",
    )
    assert record.case_ids == ("before", "behind")
    ((case_id, reason, detail),) = record.failures
    assert (case_id, reason) == ("damaged", "undecodable")
    assert "JPEG-LS" in detail
