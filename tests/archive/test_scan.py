"""The scan: the same as pydicom reads, element for element, or left to pydicom; never another."""

import importlib.util
import random
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import ENCODED_VR
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from tasks.archive import headers, scan, stretches
from tasks.archive.deidentify import kept_facts
from tasks.archive.elements import Elements, quiet
from tasks.archive.headers import read_header, read_header_with_pydicom
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.scan import WANTED, Scanner, known_charset
from tasks.errors import BadCase
from tests.archive.made_dicom import ROOT, deflated, encode, header, nested, slice_file

NAMES = Pseudonymiser(b"k" * 32)


def outcome(read) -> tuple:
    """All that a reader says of a file: the header, each wanted element and facts, or a refusal."""
    try:
        found = read()
        elements = found.elements
        fields = found._asdict()
        del fields["elements"]
        values = {tag: list(elements.values(tag)) for tag in WANTED if tag in elements}
        with quiet():
            facts = kept_facts(elements, NAMES, "0" * 32)
        return fields, values, facts, elements.transfer_syntax()
    except BadCase as problem:
        return problem.reason, problem.detail


def assert_same(data: bytes, scanner: Scanner) -> None:
    assert outcome(lambda: read_header(data, scanner)) == outcome(
        lambda: read_header_with_pydicom(data)
    )


LEAST_WALKED = {"pydicom": 60, "pydicom-data": 40, "shared": 200}
"""Files that pydicom may not have to read: a test in which all are odd would compare nothing."""


@pytest.fixture(scope="module", params=LEAST_WALKED)
def real_files(request) -> tuple[str, list[Path]]:
    """Where DICOM files of the world come from, and their paths in a mixed order."""
    origin = request.param
    if origin == "pydicom":
        paths = [Path(name) for name in get_testdata_files() if "data_store" not in name]
    elif origin == "pydicom-data":
        store = importlib.util.find_spec("data_store")
        if store is None:
            pytest.skip("pydicom-data is not installed: `make install` brings it")
        paths = [p for folder in store.submodule_search_locations for p in Path(folder).rglob("*")]
    else:
        root = request.getfixturevalue("shared_data")
        paths = [*(root / "dicom").rglob("*"), *sorted((root / "chest-xray").rglob("*.dcm"))[::9]]
    files = [path for path in paths if path.is_file()]
    random.Random(7).shuffle(files)
    return origin, files


def test_every_real_file_reads_as_pydicom_reads_it(real_files):
    origin, paths = real_files
    contents = [path.read_bytes() for path in paths]
    scanner = Scanner()
    for data in contents:
        assert_same(data, scanner)
    walked = sum(scanner.scan(data) is not None for data in contents)
    assert walked >= LEAST_WALKED[origin]


def test_a_path_gives_what_its_bytes_give(real_files):
    scanner = Scanner()
    for path in real_files[1][::3]:
        assert outcome(lambda p=path: read_header(p, scanner)) == outcome(
            lambda p=path: read_header(p.read_bytes())
        )


def test_only_the_first_bytes_of_a_whole_file_are_read(tmp_path, monkeypatch):
    data = slice_file(Rows=256, Columns=256, PixelData=bytes(256 * 256 * 2))
    (tmp_path / "a").write_bytes(data)
    monkeypatch.setattr(
        headers, "read_header_with_pydicom", lambda data: pytest.fail("left to pydicom")
    )
    assert read_header(tmp_path / "a").sop_uid
    (tmp_path / "a").write_bytes(data[:-2])
    with pytest.raises(BadCase, match="ends inside its pixel data"):
        read_header(tmp_path / "a")


def test_the_vrs_are_those_of_pydicom():
    assert {*scan.SHORT_VRS, *scan.LONG_VRS, b"UN", b"SQ"} == {
        vr for vr in ENCODED_VR if len(vr) == 2
    }
    longer = {vr.encode() for vr in EXPLICIT_VR_LENGTH_32 if len(vr) == 2}
    assert scan.LONG_VRS | {b"UN", b"SQ"} == longer
    assert {WANTED[tag].encode() for tag in WANTED} <= scan.SHORT_VRS


def test_every_element_that_somebody_asks_for_is_wanted():
    asked = set()

    class Spied(Elements):
        def __contains__(self, tag):
            asked.add(tag)
            return super().__contains__(tag)

        def values(self, tag):
            asked.add(tag)
            return super().values(tag)

    for more in ({}, {"ContrastBolusAgent": "X"}, {"StudyDate": None}, {"PixelSpacing": None}):
        ds = header(**more)
        headers._judged(Spied(ds), b"\xe0\x7f\x10\x00OW\0\0\0\0\0\0", 0, 12)
        kept_facts(Spied(ds), NAMES, "0" * 32)
    wanted = set(scan.WANTED_TAGS) | scan.LEFT_TO_PYDICOM
    assert asked <= wanted
    # 0008,0005 is asked for by pydicom, 0008,0008 by nobody yet.
    assert wanted - asked <= {0x00080005, 0x00080008}


CHARSETS = st.sampled_from(
    [
        *("", "ISO_IR 100", "ISO_IR 192", "ISO IR 100", "nonsense", "GB18030"),
        *(["", "ISO 2022 IR 87"], ["ISO 2022 IR 6", "ISO 2022 IR 149"]),
        ["ISO_IR 192", "ISO_IR 100"],
    ]
)
NAMES_TEXT = st.sampled_from(["Roe^Jane", "M\u00fcller^J\u00f6rg", "\u5c71\u7530^\u592a\u90ce", ""])
MORE = st.fixed_dictionaries(
    {},
    optional={
        "KVP": st.sampled_from(["120", "1e400", "", "nan"]),
        "BodyPartExamined": st.sampled_from(["CHEST", "", "a\\b"]),
        "PatientAge": st.sampled_from(["070Y", "7"]),
        "ImagePositionPatient": st.sampled_from([[0, 0, 1.25], [1, 2], ["-1e-3", "2", "3"]]),
        "ScanningSequence": st.sampled_from(["SE", ["GR", "EP"]]),
        "SpecificCharacterSet": CHARSETS,
        "PatientName": NAMES_TEXT,
        "InstitutionName": NAMES_TEXT,
        "ContrastBolusAgent": st.sampled_from(["", "YES"]),
        "NumberOfFrames": st.sampled_from(["1", "12"]),
    },
)


@st.composite
def datasets(draw, depth: int = 2) -> Dataset:
    """Items of a sequence, with private elements, binary ones and sequences of their own."""
    ds = Dataset()
    ds.CodeValue = draw(st.sampled_from(["", "1", "113014"]))
    if draw(st.booleans()):
        ds.SpecificCharacterSet = draw(CHARSETS)
    if draw(st.booleans()):
        block = ds.private_block(0x0029, "SOMEBODY", create=True)
        vr = draw(st.sampled_from(["OB", "UN", "LO", "DS"]))
        block.add_new(1, vr, draw(st.binary(max_size=20)) if vr in ("OB", "UN") else "1")
    if depth and draw(st.booleans()):
        sequence = Sequence(draw(st.lists(datasets(depth - 1), max_size=2)))
        ds.ConceptNameCodeSequence = sequence
        ds["ConceptNameCodeSequence"].is_undefined_length = draw(st.booleans())
    ds.is_undefined_length_sequence_item = draw(st.booleans())
    return ds


@st.composite
def files(draw) -> bytes:
    """Files of one series and others; values, layout and encoding vary."""
    with quiet():
        ds = header(draw(st.integers(1, 300)), series=draw(st.integers(1, 2)), **draw(MORE))
        if items := draw(st.lists(datasets(), max_size=2)):
            ds.RequestAttributesSequence = Sequence(items)
            ds["RequestAttributesSequence"].is_undefined_length = draw(st.booleans())
        if draw(st.booleans()):
            block = ds.private_block(0x0019, "SOMEBODY", create=True)
            block.add_new(1, "OB", draw(st.binary(max_size=300)))
        implicit = draw(st.booleans())
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        )
        stream = BytesIO()
        try:
            dcmwrite(stream, ds, enforce_file_format=True)
        except (UnicodeError, LookupError):
            # A name that its character set cannot write.
            return slice_file()
    return stream.getvalue()


WARM = Scanner()
"""One for all examples: what it remembers of a former file must not show in the next one."""


@given(files())
@settings(max_examples=300, deadline=None)
def test_every_made_file_reads_as_pydicom_reads_it(data):
    assert_same(data, WARM)


@given(files(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_broken_file_reads_as_pydicom_reads_it(data, draw):
    WARM.scan(data)
    assert_same(broken(data, draw), WARM)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(files(), st.data())
@settings(max_examples=20_000, deadline=None)
def test_many_broken_files_read_as_pydicom_reads_them(data, draw):
    WARM.scan(data)
    assert_same(broken(data, draw), WARM)


def broken(data: bytes, draw) -> bytes:
    """A file with one to three lies in it, and perhaps cut."""
    content = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(128, len(content) - 1))
        kind = draw.draw(st.sampled_from(["byte", "length", "swap"]))
        if kind == "byte":
            content[at] = draw.draw(st.integers(0, 255))
        elif kind == "length":
            lie = draw.draw(st.sampled_from([0, 1, 8, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFE]))
            content[at : at + 4] = lie.to_bytes(4, "little")
        else:
            vr = draw.draw(st.sampled_from([b"SQ", b"UN", b"OB", b"??", b"US", b"\0\0", b"UT"]))
            content[at : at + 2] = vr
    if draw.draw(st.booleans()):
        del content[draw.draw(st.integers(0, len(content))) :]
    return bytes(content)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_file_cut_at_any_byte_reads_as_pydicom_reads_it(implicit):
    ds = header()
    item = Dataset()
    item.CodeValue = "1"
    ds.RequestAttributesSequence = Sequence([item, item])
    ds["RequestAttributesSequence"].is_undefined_length = True
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    stream = BytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    data, scanner = stream.getvalue(), Scanner()
    assert scanner.scan(data) is not None
    for length in range(len(data)):
        assert_same(data[:length], scanner)


@pytest.mark.parametrize(
    "data",
    [
        deflated(header()),
        nested(20),
        slice_file(SpecificCharacterSet="ISO_IR 100").replace(b"ISO_IR 100", b"ISO_IR 999"),
        encode(header())[132:],
        slice_file().replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00LO"),
        slice_file().replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00XX"),
        slice_file().replace(b"\x08\x00\x60\x00CS", b"\x02\x00\x60\x00CS"),
        encode(header(SOPInstanceUID=None)).replace(b".7.99", b".7.9\x80"),
    ],
    ids=[
        "deflated",
        "nested",
        "charset",
        "no preamble",
        "other vr",
        "unknown vr",
        "second meta",
        "meta",
    ],
)
def test_what_is_odd_is_left_to_pydicom(data):
    assert Scanner().scan(data) is None
    assert_same(data, Scanner())


def test_known_character_sets_are_the_defined_terms():
    assert known_charset(b"")
    assert known_charset(b"ISO 2022 IR 6\\ISO 2022 IR 87 ")
    assert not known_charset(b"ISO IR 100")
    assert not known_charset(b"ISO_IR 100\0")
    assert not known_charset("ISO_IR 1\u00e9".encode("latin-1"))


def test_slices_of_a_series_share_what_was_walked():
    scanner = Scanner()
    for number in range(1, 40):
        found = scanner.scan(slice_file(number))
        assert found.values[0x00080018].rstrip(b"\0") == f"{ROOT}.3.1.{number}".encode()
    # Of 22 elements three differ from slice to slice: what is between them is remembered.
    remembered = [entry for entry in scanner._body._known.values() if entry[0]]
    assert 2 <= len(remembered) <= 5


def test_series_that_take_turns_are_read_right(monkeypatch):
    monkeypatch.setattr(stretches, "NEW_LAYOUT", 3)
    scanner = Scanner()
    for number in range(1, 60):
        data = slice_file(number, series=number % 3 + 1, patient=f"P{number % 3}")
        assert scanner.scan(data).values[0x00100020].strip() == f"P{number % 3}".encode()


def test_a_header_of_very_many_elements_is_walked_and_not_remembered():
    ds = header()
    for group in range(0x11, 0x211, 2):
        block = ds.private_block(group, "SOMEBODY", create=True)
        for element in range(12):
            block.add_new(element, "LO", "x")
    scanner, data = Scanner(), encode(ds)
    for _ in range(3):
        assert scanner.scan(data).values[0x00100020] == b"P1"
    assert not scanner._body._inside


def test_elements_that_repeat_are_read_as_pydicom_reads_them():
    data = slice_file()
    at = data.index(b"\x10\x00\x20\x00LO")
    element = data[at : at + 10]
    scanner = Scanner()
    for first, second in ((b"A ", b"B "), (b"A ", b"C "), (b"D ", b"D "), (b"A ", b"B ")):
        twice = element[:8] + first + element[:8] + second + element[:8] + first
        assert_same(data[:at] + twice + data[at + 10 :], scanner)


def test_the_memory_of_tags_is_bounded(monkeypatch):
    monkeypatch.setattr(stretches, "MAX_HEADS", 30)
    scanner = Scanner()
    for group in range(0x11, 0x91, 2):
        ds = header()
        ds.private_block(group, "SOMEBODY", create=True).add_new(1, "LO", "x")
        assert scanner.scan(encode(ds)) is not None
        assert len(scanner._body._kinds) <= 30
