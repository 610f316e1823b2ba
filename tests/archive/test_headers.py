"""Headers: recognised by content, checked, and no hostile file does more than raise BadCase."""

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file, get_testdata_files
from pydicom.uid import (
    EncapsulatedPDFStorage,
    KeyObjectSelectionDocumentStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from tasks.archive import headers
from tasks.archive.elements import quiet
from tasks.archive.headers import is_dicom, read_header
from tasks.errors import BadCase
from tests.archive.made_dicom import (
    ROOT,
    deflated,
    encode,
    header,
    nested,
    slice_file,
    without_preamble,
)


def _reason(data: bytes) -> str:
    with pytest.raises(BadCase) as caught:
        read_header(data)
    return caught.value.reason


def test_a_whole_file_gives_its_identity_and_position():
    found = read_header(slice_file(3, patient=" P7 "))
    assert (found.sop_uid, found.series_uid) == (f"{ROOT}.3.1.3", f"{ROOT}.2.1")
    assert (found.patient_id, found.accession) == ("P7", "ACC00001")
    assert math.isclose(found.position, 7.5)


def test_the_representation_of_a_header_shows_nobody():
    shown = repr(read_header(slice_file(patient="SECRET77")))
    assert "SECRET77" not in shown
    assert ROOT not in shown


def test_a_file_without_preamble_is_recognised_and_read():
    data = without_preamble(header())
    assert is_dicom(data)
    assert read_header(data).series_uid == f"{ROOT}.2.1"


@pytest.mark.parametrize("data", [b"", b"\x00" * 200, b"PK\x03\x04" + b"\x00" * 200, b"\x08\x00"])
def test_other_content_is_not_dicom(data):
    assert not is_dicom(data)
    assert _reason(data) in ("not_dicom", "empty_file")


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_uid_is_left_to_the_folder(keyword, value):
    found = read_header(encode(header(**{keyword: value})))
    empty = found.series_uid if keyword.startswith("Series") else found.study_uid
    assert empty == ""


def test_a_missing_instance_uid_is_taken_from_the_file_meta():
    assert read_header(encode(header(SOPInstanceUID=None))).sop_uid == f"{ROOT}.99"


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.x", "1" * 65, "1..2", "1.2.", "\u00e4.1"])
def test_a_wrong_uid_is_refused_without_repeating_it(uid):
    with quiet():
        data = encode(header(SeriesInstanceUID=uid))
    with pytest.raises(BadCase) as caught:
        read_header(data)
    assert caught.value.reason == "invalid_series_uid"
    assert uid not in caught.value.detail


def test_pydicom_says_nothing_of_values_it_dislikes(caplog):
    with quiet():
        data = encode(header(SeriesInstanceUID="Planted^Name", StudyDate="Planted"))
    _reason(data)
    assert caplog.text == ""


@pytest.mark.parametrize("cut", [33, 20, 1])
def test_a_file_cut_inside_its_pixels_is_truncated(cut):
    assert _reason(slice_file()[:-cut]) in ("truncated", "no_pixel_data")


@given(share=st.floats(0.0, 0.999))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_anywhere_is_refused_with_a_reason(share):
    data = slice_file()
    assert _reason(data[: int(len(data) * share)])


@given(place=st.integers(0, 600), value=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_never_raises_anything_but_a_bad_case(place, value):
    data = bytearray(slice_file())
    data[place % len(data)] = value
    with contextlib.suppress(BadCase):
        assert read_header(bytes(data)).sop_uid


def test_encapsulated_pixels_are_followed_to_their_end():
    data = Path(get_testdata_file("JPEG2000.dcm")).read_bytes()
    assert read_header(data).sop_class
    assert _reason(data[:-200]) == "truncated"


@pytest.mark.parametrize("depth", [60, 200])
def test_nested_sequences_are_refused(depth):
    assert _reason(nested(depth)) == "nested_too_deep"


def test_a_few_nested_sequences_are_read():
    assert read_header(nested(5)).sop_uid


def test_a_deflated_file_is_read_and_a_bomb_is_not_unpacked(monkeypatch):
    assert read_header(deflated(header())).series_uid == f"{ROOT}.2.1"
    monkeypatch.setattr(headers, "MAX_INFLATED_BYTES", 1 << 20)
    bomb = deflated(header(), extra=8 << 20)
    assert len(bomb) < 20_000
    assert _reason(bomb) == "decompression_bomb"


@pytest.mark.parametrize(
    "sop_class",
    [
        SegmentationStorage,
        RTStructureSetStorage,
        EncapsulatedPDFStorage,
        KeyObjectSelectionDocumentStorage,
    ],
)
def test_objects_that_are_no_image_are_named(sop_class):
    with pytest.raises(BadCase) as caught:
        read_header(slice_file(SOPClassUID=sop_class))
    assert caught.value.reason == "not_an_image"
    assert caught.value.detail == sop_class.name


def test_a_private_object_is_not_shown_by_its_uid():
    with pytest.raises(BadCase) as caught:
        read_header(slice_file(SOPClassUID="1.2.3.4.5"))
    assert (caught.value.reason, "1.2.3" in caught.value.detail) == ("not_an_image", False)


def test_an_index_of_files_is_told_from_images():
    assert _reason(Path(get_testdata_file("DICOMDIR")).read_bytes()) == "dicomdir"


def test_positions_that_are_no_numbers_are_none():
    assert read_header(encode(header(ImagePositionPatient=None))).position is None
    assert read_header(encode(header(ImagePositionPatient=["1e300"] * 3))).position is not None


def test_all_files_of_pydicom_are_read_or_refused_with_a_reason():
    reasons = []
    for name in get_testdata_files():
        if Path(name).is_file():
            try:
                read_header(name)
                reasons.append("read")
            except BadCase as refused:
                reasons.append(refused.reason)
    assert reasons.count("read") >= 70
    assert {"truncated", "not_an_image", "dicomdir", "not_dicom", "no_pixel_data"} <= set(reasons)
    assert "unreadable_header" not in reasons
