"""Files without UIDs come in as what lay together, the same way each time."""

import shutil

from tasks.archive.catalog import cases, locators_of
from tasks.archive.headers import read_header
from tasks.archive.nameless import with_uids
from tasks.archive.vault import open_vault
from tasks.archive.vault_files import file_refs
from tasks.archive.volume import read_volume
from tasks.archive.walk import Entry
from tests.archive.made_dicom import encode, header
from tests.archive.test_intake import Loop


def entry(path, member=""):
    return Entry(path, member, 0, 0, None, bytes)


def named(path="a/1.dcm", alias="clinic", member="", **more):
    values = {"SeriesInstanceUID": None, "StudyInstanceUID": None} | more
    return with_uids(read_header(encode(header(**values))), alias, entry(path, member))


def test_one_folder_is_one_series_and_another_is_another():
    first = named()
    assert first.series_uid.startswith("2.25.")
    assert len(first.series_uid) <= 64
    assert first.series_uid != first.study_uid
    assert named("a/2.dcm").series_uid == first.series_uid
    for other in (
        named("b/1.dcm"),
        named(alias="ward"),
        named("a.zip", member="a/1.dcm"),
        named(PatientID="P2"),
        named(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"),
    ):
        assert other.series_uid != first.series_uid


def test_a_stated_uid_is_kept_and_parts_the_other():
    study = named(StudyInstanceUID="1.2.3")
    assert study.study_uid == "1.2.3"
    assert study.series_uid != named(StudyInstanceUID="1.2.4").series_uid
    whole = read_header(encode(header()))
    assert with_uids(whole, "clinic", entry("a/1.dcm")) is whole


def test_a_real_ct_without_uids_comes_in_and_says_so(sqlite_catalog, tmp_path, shared_data):
    root = tmp_path / "archive"
    shutil.copytree(shared_data / "dicom/ct_siemens_body", root / "ct")
    root.chmod(0o755)
    (root / "ct").chmod(0o755)
    loop = Loop(sqlite_catalog, open_vault(f"sqlite:///{tmp_path}/vault.db"), root)
    report = loop.take()
    assert (report.instances, report.quarantined) == (20, {})
    (case,) = cases(sqlite_catalog, kind="dicom")
    refs = file_refs(loop.vault, locators_of(sqlite_catalog, case.case_id))
    volume = read_volume("dicom", list(refs.values()))
    assert volume.array.shape == (20, 512, 512)
    assert volume.certificate["notes"] == [
        "no UIDs in the files: taken as one series because they lay in one folder"
    ]
    assert loop.take().unchanged == 20
