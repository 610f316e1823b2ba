"""Data sets cut from bytes are those that pydicom reads, element for element."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from tasks.archive.cut import Cutter
from tasks.archive.elements import quiet
from tasks.phantom.ct import write_ct_series
from tasks.phantom.encode import encode_pixels

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"

OF_EXPLICIT_SYNTAX = 60
"""At least so many of pydicom's files are cut: leaving all to pydicom would prove nothing."""


def same(ours, theirs):
    """Compare element for element; what cannot be converted must fail on both sides."""
    tags = list(theirs.keys())
    assert list(ours.keys()) == tags
    for tag in tags:
        assert outcome(ours, tag) == outcome(theirs, tag), tag
    assert ours.file_meta.TransferSyntaxUID == theirs.file_meta.TransferSyntaxUID
    assert ours.original_character_set == theirs.original_character_set
    assert ours.original_encoding == theirs.original_encoding


def outcome(dataset, tag):
    try:
        element = dataset[tag]
    except Exception as error:
        return type(error)
    value = element.value
    if element.VR == "SQ":
        return [[(one.tag, one.VR, repr(one.value)) for one in item.iterall()] for item in value]
    return element.VR, repr(bytes(value) if isinstance(value, memoryview) else value)


def files():
    return [path for path in sorted(FOLDER.rglob("*")) if path.is_file()]


def test_pydicoms_own_files_are_the_same_or_left_to_it():
    cut, cutter = 0, Cutter()
    for path in files():
        data = path.read_bytes()
        with quiet():
            # One cutter for all: what it takes over must be right across series, too.
            ours = cutter.cut(data)
            if ours is not None:
                cut += 1
                same(ours, dcmread(BytesIO(data), force=True))
    assert cut >= OF_EXPLICIT_SYNTAX


def test_real_series_are_the_same(shared_data):
    cut = 0
    for folder in ("ct_siemens_body", "mr_siemens_epi", "transfer_syntaxes", "seg"):
        cutter = Cutter()
        for path in sorted((shared_data / "dicom" / folder).rglob("*"))[:12]:
            if path.is_file():
                data = path.read_bytes()
                with quiet():
                    ours = cutter.cut(data)
                    if ours is not None:
                        cut += 1
                        same(ours, dcmread(BytesIO(data), force=True))
    assert cut > 20


def slices(folder):
    write_ct_series(folder, seed=3)
    return [path.read_bytes() for path in sorted(folder.rglob("*.dcm"))]


def test_what_a_file_converted_the_next_one_has_unless_its_bytes_differ(tmp_path):
    first, second = slices(tmp_path)[:2]
    cutter = Cutter()
    one = cutter.cut(first)
    rows, position = one["Rows"], one["ImagePositionPatient"]
    two = cutter.cut(second)
    assert two["Rows"] is rows
    assert two["ImagePositionPatient"].value != position.value
    with quiet():
        same(two, dcmread(BytesIO(second)))


def test_what_is_asked_for_when_all_files_are_cut_is_converted_once_too(tmp_path):
    cutter = Cutter()
    one, two = (cutter.cut(data) for data in slices(tmp_path)[:2])
    assert two["Rows"] is one["Rows"]
    assert two.get("Columns") == one.Columns == two[0x00280011].value
    assert two.file_meta["TransferSyntaxUID"] is one.file_meta["TransferSyntaxUID"]
    assert two["ImagePositionPatient"] is not one["ImagePositionPatient"]
    assert (two.get("EchoTime"), two.get("EchoTime", 1), two.get("NoKeyword", 2)) == (None, 1, 2)


def test_text_in_another_character_set_is_not_taken_over(tmp_path):
    dataset = dcmread(BytesIO(slices(tmp_path)[0]))
    found, cutter = [], Cutter()
    for charset in ("ISO_IR 100", "ISO_IR 101"):
        dataset.SpecificCharacterSet = charset
        dataset.add_new(0x0008103E, "LO", b"\xb1\xb2")
        stream = BytesIO()
        dataset.save_as(stream)
        found.append(str(cutter.cut(stream.getvalue())["SeriesDescription"].value))
    assert found[0] != found[1]


def changed(dataset, number):
    """Vary what files of one series vary, and also what they should not."""
    dataset.InstanceNumber = number
    dataset.SliceLocation = str(number * 2.5)
    if number % 3 == 0:
        dataset.SeriesDescription = "longer than before" * (number % 4)
    if number % 4 == 1:
        dataset.add_new(0x00181030, "LO", "PROTOCOL")
    elif 0x00181030 in dataset:
        del dataset[0x00181030]
    if number == 9:
        for element in list(dataset)[4:40]:
            if element.VR in ("LO", "SH", "DS"):
                del dataset[element.tag]


def test_files_that_share_runs_of_elements_are_those_that_pydicom_reads(tmp_path):
    dataset, cutter = dcmread(BytesIO(slices(tmp_path)[0])), Cutter()
    for number in range(16):
        changed(dataset, number)
        stream = BytesIO()
        dataset.save_as(stream)
        with quiet():
            same(cutter.cut(stream.getvalue()), dcmread(BytesIO(stream.getvalue())))
    assert cutter._runs


def test_an_element_that_stands_twice_in_one_file_leaves_nothing_to_the_next(tmp_path):
    data = slices(tmp_path)[0]
    twice = b"\x20\x00\x13\x00IS\x02\x00"
    at = data.index(twice)
    double = data[:at] + twice + b"7 " + data[at:]
    single = data[:at] + twice + b"7 " + data[at + 10 :]
    cutter = Cutter()
    for one in (double, double, single, double, single):
        with quiet():
            ours = cutter.cut(one)
            if ours is not None:
                same(ours, dcmread(BytesIO(one), force=True))


def test_files_cut_short_at_any_byte_are_left_to_pydicom(tmp_path):
    data = slices(tmp_path)[0]
    cutter = Cutter()
    assert cutter.cut(data) is not None
    lengths = np.random.default_rng(0).integers(0, len(data), 300)
    whole = set()
    for length in lengths.tolist():
        if (found := cutter.cut(data[:length])) is not None:
            # Cut exactly between two elements, which nobody can tell.
            whole.add(length)
            with quiet():
                same(found, dcmread(BytesIO(data[:length]), force=True))
    assert len(whole) < 10


@pytest.mark.parametrize("damage", range(6))
def test_damaged_files_are_the_same_or_left_to_pydicom(tmp_path, damage):
    rng = np.random.default_rng(damage)
    whole = slices(tmp_path)[0]
    cutter, cut = Cutter(), 0
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(132, 1500, 3):
            data[place] = rng.integers(256)
        data = bytes(data)
        with quiet():
            ours = cutter.cut(data)
            if ours is not None:
                cut += 1
                same(ours, dcmread(BytesIO(data), force=True))
    assert cut > 0


def test_implicit_and_unusual_files_are_left_to_pydicom(tmp_path):
    dataset = dcmread(BytesIO(slices(tmp_path)[0]))
    for syntax, cut in ((ImplicitVRLittleEndian, False), (ExplicitVRLittleEndian, True)):
        encode_pixels(dataset, dataset.pixel_array, syntax)
        stream = BytesIO()
        dataset.save_as(stream, enforce_file_format=True)
        assert (Cutter().cut(stream.getvalue()) is not None) is cut


def test_fragments_are_the_same_with_and_without_what_follows(tmp_path):
    dataset = dcmread(BytesIO(slices(tmp_path)[0]))
    encode_pixels(dataset, dataset.pixel_array, JPEGLSLossless)
    dataset.add_new(0xFFFCFFFC, "OB", bytes(10))
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    ours = Cutter().cut(stream.getvalue())
    assert bytes(ours.PixelData) == bytes(dcmread(BytesIO(stream.getvalue())).PixelData)
    same(ours, dcmread(BytesIO(stream.getvalue())))
