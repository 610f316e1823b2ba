"""Pictures and volumes with a mapping: in the catalog under pseudonyms, new when a line changes."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from tasks.archive.catalog import cases, locators_of, quarantine, status
from tasks.archive.intake import ingest
from tasks.archive.mapping import MAPPING_NAME, members, parse_mapping_table
from tasks.archive.nifti import write_nifti
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import resolve_source
from tasks.archive.vault import open_vault, project_key, recall
from tasks.archive.vault_files import file_refs
from tasks.archive.volume import read_volume
from tasks.labels.attach import attach_labels
from tasks.labels.config import LabelConfig
from tests.archive.made_dicom import slice_file
from tests.archive.made_rows import dumped

Image = pytest.importorskip("PIL.Image")

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def png(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GREY + np.uint8(seed)).save(stream, "PNG")
    return stream.getvalue()


def nrrd(seed: int = 0, data_file: str = "") -> bytes:
    head = (
        "NRRD0005\ntype: uchar\ndimension: 3\nspace: LPS\nsizes: 2 3 4\nencoding: raw\n"
        "space directions: (0.5,0,0) (0,0.75,0) (0,0,2)\nspace origin: (10,20,30)\n"
    )
    values = bytes((n + seed) % 256 for n in range(24))
    return (
        (head + f"data file: {data_file}\n").encode()
        if data_file
        else head.encode() + b"\n" + values
    )


class Loop:
    """A catalog, a vault and a folder, taken in again and again."""

    def __init__(self, catalog, vault, root: Path) -> None:
        self.catalog, self.vault, self.root = catalog, vault, root
        self.names = Pseudonymiser(project_key(vault))

    def put(self, files: dict[str, bytes], *lines: str) -> None:
        for name, data in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(data)
        if lines:
            (self.root / MAPPING_NAME).write_text("\n".join(lines) + "\n")

    def take(self, **more):
        source = resolve_source(str(self.root))
        report = ingest(source, self.catalog, self.vault, self.names, **more)
        assert report.accounted == report.seen
        return report

    def volumes(self) -> dict:
        """Every case by the name of its file, read as a worker reads it."""
        found = {}
        for kind in ("picture", "nifti", "nrrd", "mha", "dicom"):
            for case in cases(self.catalog, kind=kind):
                locators = locators_of(self.catalog, case.case_id)
                refs = file_refs(self.vault, locators)
                volume = read_volume(kind, [refs[locator] for locator in locators])
                found[Path(refs[locators[0]].path).name] = (case, volume)
        return found


@pytest.fixture
def loop(sqlite_catalog, prepared_sqlite, tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    shutil.copy(prepared_sqlite / "vault.db", tmp_path / "own-vault.db")
    vault = open_vault(f"sqlite:///{tmp_path}/own-vault.db")
    yield Loop(sqlite_catalog, vault, root)
    vault.dispose()


def test_pictures_and_volumes_enter_under_one_mapping(loop):
    write_nifti(loop.root / "v.nii.gz", np.zeros((4, 3, 2), np.int16), np.diag([2, 0.75, 0.5, 1]))
    loop.put(
        {"a/1.png": png(1), "a/2.PNG": png(2), "v.nrrd": nrrd(), "d.nhdr": nrrd(0, "d.raw")},
        "file,patient,modality,body part,spacing,finding",
        "a/1.png,P1,DX,chest,0.5,ill",
        "a/2.PNG,P1,DX,chest,0.5 0.75,well",
        "v.nrrd,P2,CT,,,well",
        "v.nii.gz,P2,CT,,,well",
        "d.nhdr,P3,MR,,,well",
    )
    (loop.root / "d.raw").write_bytes(nrrd()[-24:])
    report = loop.take()
    assert report.quarantined == {}
    # Six files and five lines.
    assert (report.instances, report.ignored, report.seen) == (11, 0, 11)
    found = loop.volumes()
    assert set(found) == {"1.png", "2.PNG", "v.nrrd", "v.nii.gz", "d.nhdr"}
    case, volume = found["2.PNG"]
    np.testing.assert_array_equal(volume.array[0], GREY + np.uint8(2))
    assert volume.certificate["spacing"] == [1.0, 0.5, 0.75]
    facts = {"modality": "DX", "rows": 6, "cols": 8, "spacing_row": 0.5, "spacing_col": 0.75}
    assert facts.items() <= case.facts.items()
    np.testing.assert_allclose(found["v.nrrd"][1].affine[:3, 3], [10, 20, 30])
    np.testing.assert_array_equal(found["d.nhdr"][1].array, found["v.nrrd"][1].array)
    assert found["1.png"][0].patient_key == case.patient_key
    assert found["1.png"][0].series_key != case.series_key


def test_no_name_of_the_mapping_is_in_the_catalog(loop):
    loop.put(
        {"Zyxwv_Quentin.png": png()},
        "file,patient,study,accession,modality,remark",
        "Zyxwv_Quentin.png,MRN998877,STUDY4711,ACC4711,DX,call Quentin",
    )
    loop.take()
    dump = dumped(loop.catalog).lower()
    for token in ("zyxwv", "quentin", "mrn998877", "study4711", "acc4711"):
        assert token not in dump
    (case,) = cases(loop.catalog, kind="picture")
    assert recall(loop.vault, "patient", case.patient_key) == "MRN998877"
    assert recall(loop.vault, "accession", case.accession_key) == "ACC4711"


def test_again_reads_nothing_and_changes_nothing(loop, monkeypatch):
    loop.put({"1.png": png(1), "2.png": png(2)}, "file,patient", "1.png,P1", "2.png,P2")
    loop.take()
    before = dumped(loop.catalog)
    monkeypatch.setattr("tasks.archive.contents.digest_of", lambda _: pytest.fail("read again"))
    assert (loop.take().unchanged, dumped(loop.catalog)) == (4, before)


def test_a_corrected_line_makes_its_case_new_and_leaves_the_others(loop):
    files = {"1.png": png(1), "2.png": png(2)}
    loop.put(files, "file,patient,spacing", "1.png,P1,0.5", "2.png,P2,0.5")
    loop.take()
    before = {name: case for name, (case, _) in loop.volumes().items()}
    loop.put({}, "file,patient,spacing", "1.png,P1,0.5", "2.png,P2,0.25")
    report = loop.take()
    assert (report.instances, report.unchanged) == (2, 2)
    after = loop.volumes()
    assert after["1.png"][0] == before["1.png"]
    assert after["2.png"][0].case_id != before["2.png"].case_id
    assert after["2.png"][0].facts["spacing_row"] == 0.25
    assert after["2.png"][1].certificate["spacing"] == [1.0, 0.25, 0.25]


@pytest.mark.parametrize("column", ["patient", "study", "accession"])
def test_a_picture_moves_to_the_patient_that_a_correction_names(loop, column):
    loop.put({"1.png": png()}, "file,patient,study,accession", "1.png,P1,S1,A1")
    loop.take()
    (before,) = cases(loop.catalog, kind="picture")
    changed = {"patient": "P1", "study": "S1", "accession": "A1", column: "X9"}
    line = ",".join(["1.png", *changed.values()])
    loop.put({}, "file,patient,study,accession", line)
    assert loop.take().quarantined == {}
    (after,) = cases(loop.catalog, kind="picture")
    assert getattr(after, f"{column}_key") != getattr(before, f"{column}_key")
    assert after.n_instances == 2
    assert loop.take().unchanged == 2


def test_a_line_that_is_taken_out_takes_its_picture_out(loop):
    loop.put({"1.png": png(1), "2.png": png(2)}, "file,patient", "1.png,P1", "2.png,P2")
    loop.take()
    loop.put({}, "file,patient", "1.png,P1")
    assert loop.take().quarantined == {"unsupported_format": 1}
    assert set(loop.volumes()) == {"1.png"}
    loop.put({}, "file,patient", "1.png,P1", "2.png,P2")
    assert loop.take().quarantined == {}
    assert set(loop.volumes()) == {"1.png", "2.png"}
    assert status(loop.catalog)["quarantine"] == {}


def test_pictures_wait_in_quarantine_until_a_mapping_names_them(loop):
    loop.put({"z.png": png(1), "2.dcm": slice_file(2)})
    report = loop.take()
    assert (report.instances, report.quarantined) == (1, {"unsupported_format": 1})
    loop.put({}, "file,patient", "z.png,P1")
    report = loop.take()
    assert (report.instances, report.unchanged, report.quarantined) == (2, 1, {})
    assert set(loop.volumes()) == {"z.png", "2.dcm"}
    assert status(loop.catalog)["quarantine"] == {}


def test_what_is_wrong_with_lines_and_files_is_said_one_by_one(loop):
    loop.put(
        {"a.png": b"no picture", "cut.nrrd": nrrd()[:-3], "i.dcm.png": slice_file(1), "e.png": b""},
        "file,patient,spacing",
        "a.png,P1,",
        "cut.nrrd,P2,",
        "i.dcm.png,P3,",
        "e.png,P4,",
        "gone.png,P5,",
        "../up.png,P6,",
        "/etc/x.png,P7,",
        "b.txt,P8,",
        "c.png,,",
        "d.png,P9,-1",
        "f.png,1.2E+05,",
        "a.png,P1,",
    )
    report = loop.take()
    assert report.instances == 0
    assert report.quarantined == {
        "not_picture": 2,
        "truncated": 2,
        "empty_file": 2,
        "unusable_row": 9,
        "listed_file_missing": 1,
    }
    assert cases(loop.catalog, kind="picture") == []
    details = " ".join(row.detail for row in quarantine(loop.catalog))
    for line in (7, 8, 9, 10, 11, 12, 13):
        assert f"line {line}" in details
    assert "etc" not in details
    loop.put({"a.png": png(), "gone.png": png(3)})
    report = loop.take()
    assert report.instances == 4
    assert set(loop.volumes()) == {"a.png", "gone.png"}


def test_links_do_not_lead_a_mapping_out_of_its_folder(loop, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.png").write_bytes(png())
    (outside / MAPPING_NAME).write_text("file,patient\n1.png,P1\n")
    (loop.root / "in").symlink_to(outside)
    (loop.root / MAPPING_NAME).symlink_to(outside / MAPPING_NAME)
    assert loop.take().seen == 0
    (loop.root / MAPPING_NAME).unlink()
    loop.put({}, "file,patient", "in/1.png,P1")
    assert loop.take().quarantined == {"listed_file_missing": 1}
    assert loop.volumes() == {}


def test_a_mapping_that_is_none_stops_the_intake_with_one_sentence(loop):
    loop.put({"1.png": png()}, "picture,patient", "1.png,P1")
    with pytest.raises(ValueError, match="no column 'file'"):
        loop.take()


def test_ids_that_name_nobody_never_join_two_pictures(loop):
    lines = [f"{n}.png,{name}" for n, name in enumerate(["anonymous", "anonymous", "000", "000"])]
    loop.put({f"{n}.png": png(n) for n in range(4)}, "file,patient", *lines)
    loop.take()
    assert len({case.patient_key for case in cases(loop.catalog, kind="picture")}) == 4


def test_labels_are_joined_from_the_same_table_by_file(loop):
    loop.put(
        {"1.png": png(1), "2.png": png(2)},
        "file,patient,finding",
        "1.png,P1,ill",
        "2.png,P2,well",
    )
    loop.take()
    config = LabelConfig(
        format="table",
        file=MAPPING_NAME,
        join="accession",
        key_column="file",
        column="finding",
        classes=("well", "ill"),
        positive="ill",
    )
    source = resolve_source(str(loop.root))
    found = attach_labels(source, config, loop.names, loop.catalog, loop.vault)
    assert (found.rows, found.matched, found.unmatched) == (2, 2, ())


def test_columns_are_known_in_any_case_and_codes_replace_free_text():
    data = b"FILE;Patient;Modality;Body_Part;Sex;spacing\nx.png;P1;dx;my left knee;w;0,5\n"
    (row,) = parse_mapping_table(data).rows.values()
    assert dict(row.facts) == {"modality": "DX", "body_part": "other"}
    assert row.spacing == (0.5, 0.5)
    ((name, content, problem),) = members(data)
    assert (name, problem) == ("x.png", None)
    assert b"P1" not in content
    assert b"knee" not in content


def test_real_pictures_and_volumes_enter(loop, shared_data):
    lines = ["file,patient,modality"]
    for place, modality in (("registration", "MR"), ("volumes", "CT")):
        for path in sorted((shared_data / place).iterdir()):
            if path.suffix in (".png", ".nrrd") or path.name.endswith(".nii.gz"):
                shutil.copy(path, loop.root / path.name)
                lines.append(f"{path.name},{path.stem},{modality}")
    loop.put({}, *lines)
    report = loop.take()
    assert report.quarantined == {}
    found = loop.volumes()
    assert len(found) == len(lines) - 1 >= 8
    assert {volume.array.ndim for _, volume in found.values()} == {3}
