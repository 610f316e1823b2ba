"""Hostile archives: every file accounted for, nothing written outside the home, nobody joined."""

import io
import itertools
import os
import random
import shutil
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.archive.catalog import cases, locators_of, open_catalog, quarantine, status
from tasks.archive.intake import ingest
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.reasons import remedy
from tasks.archive.sources import FileRef, read_bytes, resolve_source
from tasks.archive.vault import open_vault, project_key
from tasks.archive.vault_files import file_refs, known_files
from tasks.archive.volume import read_volume
from tasks.errors import BadCase
from tests.archive.made_dicom import ROOT, deflated, encode, header, nested, slice_file
from tests.archive.made_rows import dumped


class Home:
    """A home and an archive beside it; tells whether anything else was touched."""

    def __init__(self, prepared: Path, base: Path) -> None:
        self.base, self.root = base, base / "archive"
        self.root.mkdir()
        for name in ("catalog", "vault"):
            shutil.copy(prepared / f"{name}.db", base / f"own-{name}.db")
        self.catalog = open_catalog(f"sqlite:///{base}/own-catalog.db")
        self.vault = open_vault(f"sqlite:///{base}/own-vault.db")
        self.names = Pseudonymiser(project_key(self.vault))

    def close(self) -> None:
        self.catalog.dispose()
        self.vault.dispose()

    def put(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(data)

    def take(self, place: Path | None = None, **more):
        """Take in; the archive and its neighbours stay as they were, to the byte."""
        before = self.outside()
        source = resolve_source(str(place or self.root))
        report = ingest(source, self.catalog, self.vault, self.names, **more)
        assert self.outside() == before
        assert report.accounted == report.seen
        assert {remedy(reason) for reason in report.quarantined}.isdisjoint({None})
        return report

    def outside(self) -> dict[str, bytes | None]:
        """Everything beside the databases, with its content."""
        return {
            str(path.relative_to(self.base)): path.read_bytes() if path.is_file() else None
            for path in self.base.rglob("*")
            if ".db" not in path.name and not path.is_symlink()
        }


@pytest.fixture
def home(prepared_sqlite, tmp_path):
    made = Home(prepared_sqlite, tmp_path)
    yield made
    made.close()


MARKUP = "<img src=x onerror=alert(1)>&amp;{{7*7}}`rm -rf`$(id)';DROP TABLE files;--"


def test_names_with_markup_are_names_and_nothing_else(home):
    home.put({f"{MARKUP[:60]}/é\u202e\n.dcm": slice_file(1), "a b\t'\"": slice_file(2)})
    report = home.take()
    assert (report.instances, report.quarantined) == (2, {})
    (case,) = cases(home.catalog, kind="dicom")
    refs = file_refs(home.vault, locators_of(home.catalog, case.case_id))
    assert [len(read_bytes(ref)) for ref in refs.values()] == [len(slice_file(1))] * 2
    assert "onerror" not in dumped(home.catalog)


def test_markup_in_a_header_stays_in_the_vault(home):
    words = {"PatientName": MARKUP[:60], "AccessionNumber": "<b>1</b>", "StudyDescription": "<i>"}
    home.put({"1": slice_file(1, patient="<script>", **words)})
    assert home.take().instances == 1
    assert "script" not in dumped(home.catalog)
    assert "<b>" not in dumped(home.catalog)


@pytest.mark.parametrize(
    "uid",
    [
        "../../../up",
        "/etc/passwd",
        "1.2/../3",
        "..\\3",
        "C:\\x",
        "1.2\n3",
        "<b>",
        "..",
        "1",
    ],
)
@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
def test_path_characters_in_uids_are_refused(home, keyword, uid):
    # Written by hand: pydicom itself refuses some of them.
    plain = header(1)
    placeholder = f"{ROOT}.".ljust(64, "7")
    setattr(plain, keyword, placeholder)
    data = encode(plain).replace(placeholder.encode(), uid.encode().ljust(64, b"\0"))
    home.put({"1": data})
    report = home.take()
    assert report.instances == 0
    assert sum(report.quarantined.values()) == 1
    assert next(iter(report.quarantined)).startswith(("invalid_", "missing_", "unreadable"))


@pytest.mark.parametrize("ending", ["zip", "tar", "tgz"])
def test_members_that_leave_the_archive_write_nothing(home, ending):
    names = ["../../zip-slip", "/tmp/absolute-slip", "C:\\slip", "ok/../../slip", "fine.dcm"]
    place = home.root / f"evil.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for number, name in enumerate(names):
                archive.writestr(name, slice_file(number))
    else:
        with tarfile.open(place, "w:gz" if ending == "tgz" else "w") as archive:
            for number, name in enumerate(names):
                info = tarfile.TarInfo(name)
                info.size = len(slice_file(number))
                archive.addfile(info, io.BytesIO(slice_file(number)))
            for kind, target in ((tarfile.SYMTYPE, "/etc"), (tarfile.LNKTYPE, "../../x")):
                info = tarfile.TarInfo("link")
                info.type, info.linkname = kind, target
                archive.addfile(info)
            device = tarfile.TarInfo("device")
            device.type = tarfile.CHRTYPE
            archive.addfile(device)
    report = home.take()
    assert (report.instances, report.quarantined) == (1, {"unsafe_member_name": 4})
    assert not Path("/tmp/absolute-slip").exists()


def test_two_contents_under_one_uid_are_both_kept_and_told(home):
    other = slice_file(1, PixelData=bytes(32))
    home.put({"a": slice_file(1), "b": other})
    report = home.take()
    assert (report.instances, report.quarantined) == (1, {"sop_conflict": 1})
    (row,) = [row for row in quarantine(home.catalog) if row.reason == "sop_conflict"]
    # Both stay readable: the one in the case, and the one the quarantine row points at.
    (ref,) = file_refs(home.vault, [row.locator]).values()
    (case,) = cases(home.catalog, kind="dicom")
    (held,) = file_refs(home.vault, locators_of(home.catalog, case.case_id)).values()
    assert {read_bytes(ref), read_bytes(held)} == {slice_file(1), other}


def test_the_order_of_files_changes_nothing(prepared_sqlite, tmp_path):
    """Duplicates and conflicts in any order, in one intake or several, end in one catalog."""
    contents = [
        slice_file(1),
        slice_file(1),
        slice_file(1, PixelData=bytes(32)),
        slice_file(2),
        slice_file(2, PixelData=bytes(32)),
    ]
    ends = set()
    for number, order in enumerate(list(itertools.permutations(range(5)))[::12]):
        base = tmp_path / str(number)
        base.mkdir()
        home = Home(prepared_sqlite, base)
        for place, index in enumerate(order):
            home.put({str(place): contents[index]})
            if number % 2:
                home.take()
        home.take()
        ends.add(_held(home))
        home.close()
    assert len(ends) == 1
    assert len(ends.pop()) == 2


def _held(home: Home) -> tuple[str, ...]:
    """Digests of the contents that the cases hold."""
    found = []
    for case in cases(home.catalog, kind="dicom"):
        refs = file_refs(home.vault, locators_of(home.catalog, case.case_id))
        found += [ref.digest for ref in refs.values()]
    return tuple(sorted(found))


def test_two_patients_under_one_id_of_two_hospitals_stay_two(home):
    home.put(
        {
            "1": slice_file(1, patient="4711", IssuerOfPatientID="North"),
            "2": slice_file(1, series=2, patient="4711", IssuerOfPatientID="South"),
            "3": slice_file(1, series=3, patient=" 4711 ", IssuerOfPatientID="North"),
        }
    )
    assert home.take().instances == 3
    assert len({case.patient_key for case in cases(home.catalog, kind="dicom")}) == 2


def test_one_series_under_two_patients_is_a_conflict_and_both_files_are_kept(home):
    home.put({"1": slice_file(1, patient="P1"), "2": slice_file(2, patient="P2")})
    report = home.take()
    assert (report.instances, report.quarantined) == (1, {"sop_conflict": 1})
    known = known_files(home.vault, resolve_source(str(home.root)).alias)
    assert sorted(file.outcome for file in known.values()) == ["instance", "quarantine"]


@pytest.mark.parametrize(
    "name", ["", " ", "\0", "ANONYMOUS", "anonymous ", "0000", "XXXX", "n/a", "unknown", "-", "?"]
)
def test_ids_that_name_nobody_never_join_two_studies(home, name):
    home.put({f"{n}": slice_file(1, series=n, patient=name) for n in (1, 2, 3)})
    home.take()
    assert len({case.patient_key for case in cases(home.catalog, kind="dicom")}) == 3


@pytest.mark.parametrize("rows", [65535, 40000])
def test_a_matrix_that_no_file_can_hold_is_refused_before_memory_is_taken(home, rows):
    data = encode(header(1, Rows=rows, Columns=rows))
    home.put({"1": data})
    report = home.take()
    ref = FileRef(str(home.root / "1"), None, "", len(data))
    with pytest.raises(BadCase, match=r"too_large|truncated|wrong_length"):
        read_volume("dicom", [ref])
    assert report.seen == 1


@pytest.mark.parametrize("depth", [33, 200, 2000])
def test_nesting_beyond_any_object_is_one_quarantined_file(home, depth):
    data = nested(min(depth, 200))
    if depth > 200:
        # Deeper than pydicom can write: items of undefined length that never end.
        item = struct.pack("<HH2sHI", 0x0040, 0xA168, b"SQ", 0, 0xFFFFFFFF)
        item += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        whole = slice_file(1)
        at = whole.index(struct.pack("<HH2s", 0x0028, 0x0002, b"US"))
        data = whole[:at] + item * depth
    home.put({"deep": data, "good": slice_file(1)})
    report = home.take()
    assert (report.instances, sum(report.quarantined.values())) == (1, 1)


def test_a_deflate_bomb_costs_no_memory(home, monkeypatch):
    monkeypatch.setattr("tasks.archive.headers.MAX_INFLATED_BYTES", 1 << 20)
    home.put({"bomb": deflated(header(1), extra=50_000_000), "good": slice_file(1)})
    report = home.take()
    assert (report.instances, report.quarantined) == (1, {"decompression_bomb": 1})


def test_links_out_of_the_archive_are_never_followed(home, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "1.dcm").write_bytes(slice_file(1))
    (home.root / "folder").symlink_to(secret)
    (home.root / "file").symlink_to(secret / "1.dcm")
    (home.root / "etc").symlink_to("/etc")
    (home.root / "loop").symlink_to(home.root)
    report = home.take()
    assert (report.seen, report.links) == (0, 4)


def test_a_thousand_folders_inside_each_other_are_walked(home):
    here = os.open(home.root, os.O_RDONLY)
    try:
        for _ in range(1200):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        with os.fdopen(os.open("1", os.O_CREAT | os.O_WRONLY, dir_fd=here), "wb") as stream:
            stream.write(slice_file(1))
    finally:
        os.close(here)
    try:
        source = resolve_source(str(home.root))
        report = ingest(source, home.catalog, home.vault, home.names)
        assert (report.instances, report.seen) == (1, 1)
    finally:
        # What clears up after the tests goes down by recursion, and would end half way.
        subprocess.run(["rm", "-rf", str(home.root / "d")], check=True)


def test_an_index_of_files_is_passed_over_and_its_files_taken(home):
    from pydicom.data import get_testdata_file

    place = Path(get_testdata_file("DICOMDIR"))
    home.put({"DICOMDIR": place.read_bytes(), "1": slice_file(1)})
    report = home.take()
    assert (report.instances, report.ignored, report.quarantined) == (1, 1, {})


WHOLE = slice_file(1)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=st.lists(st.integers(0, len(WHOLE) - 1), min_size=8, max_size=8, unique=True))
def test_a_file_cut_at_any_byte_is_accounted_for_and_never_taken(home, cuts):
    for path in home.root.iterdir():
        path.unlink()
    home.put({f"cut-{at}": WHOLE[:at] for at in cuts})
    report = home.take(retry=True)
    assert report.instances == 0


def test_every_cut_of_a_small_file_is_refused_by_the_reader():
    from tasks.archive.headers import read_header

    for at in range(len(WHOLE)):
        with pytest.raises(BadCase):
            read_header(WHOLE[:at])


def test_lengths_that_lie_take_nothing_else_with_them(home):
    rng = random.Random(7)
    files = {}
    for number in range(60):
        data = bytearray(slice_file(number + 1, series=number + 1))
        at = rng.randrange(132, len(data) - 4)
        data[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\x01\0\0\0"])
        files[f"{number:02d}"] = bytes(data)
    home.put({**files, "good": slice_file(500, series=500)})
    report = home.take()
    assert report.seen == 61
    assert report.instances >= 1


def test_retry_takes_what_an_upgrade_made_readable(home, monkeypatch):
    home.put({"1": slice_file(1), "2": slice_file(2), "3": slice_file(3)[:-5]})

    def cannot_yet(data, *_):
        raise BadCase("unreadable_header", "this release cannot read it")

    with monkeypatch.context() as former:
        former.setattr("tasks.archive.intake.read_header", cannot_yet)
        assert home.take().quarantined == {"unreadable_header": 3}
    # The new release alone reads nothing again: the files did not change.
    assert home.take().unchanged == 3
    report = home.take(retry=True)
    assert (report.instances, report.quarantined) == (2, {"truncated": 1})
    assert status(home.catalog)["quarantine"] == {"truncated": 1}
    assert home.take(retry=True).unchanged == 2
