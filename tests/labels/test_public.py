"""Public data sets of radiographs, built in their own layout, go from folder to labelled cohort."""

import csv
import gzip
import io

import numpy as np
import pytest

from flows.__main__ import main
from tasks.archive.catalog import label_rows, latest_label_set, open_catalog
from tasks.archive.intake import ingest
from tasks.archive.mapping import parse_mapping_table
from tasks.archive.picture import read_picture
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import FileRef, resolve_source
from tasks.archive.vault import open_vault, project_key
from tasks.cohort.config import CohortConfig
from tasks.cohort.select import select
from tasks.labels import grazpedwri, mura, rsna_pneumonia
from tasks.labels.attach import attach_labels
from tasks.labels.case_mask import read_labels as read_labels_of
from tasks.labels.config import PUBLIC, LabelConfig, label_set_name
from tasks.labels.layouts import LAYOUTS, mapping_text, read_labels
from tests.archive.made_dicom import slice_file

Image = pytest.importorskip("PIL.Image")


def _picture(path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    deep = path.suffix == ".png" and "GRAZ" in str(path)
    grey = (np.arange(80).reshape(8, 10) * 3 + number).astype(np.uint16 if deep else np.uint8)
    Image.fromarray(grey).save(path)


def make_mura(root) -> None:
    studies = (
        ("train", "XR_WRIST", "patient00001", 1, 1, 2),
        ("train", "XR_HAND", "patient00001", 2, 0, 1),
        ("train", "XR_ELBOW", "patient00002", 1, 0, 3),
        ("valid", "XR_WRIST", "patient11185", 1, 1, 1),
    )
    lines = {"train": ([], []), "valid": ([], [])}
    for n, (side, part, patient, study, label, views) in enumerate(studies):
        place = f"{side}/{part}/{patient}/study{study}_{('negative', 'positive')[label]}"
        lines[side][1].append(f"MURA-v1.1/{place}/,{label}")
        for view in range(1, views + 1):
            lines[side][0].append(f"MURA-v1.1/{place}/image{view}.png")
            _picture(root / place / f"image{view}.png", 10 * n + view)
    for side, (images, labels) in lines.items():
        (root / f"{side}_image_paths.csv").write_text("\n".join(images) + "\n")
        (root / f"{side}_labeled_studies.csv").write_text("\n".join(labels) + "\n")


def make_fracatlas(root) -> None:
    head = "image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,fracture_count,"
    rows = [head + "frontal,lateral,oblique"]
    for n, (fractured, part, views) in enumerate(
        [(1, "1,0,0,0,0", "1,0,0"), (0, "0,1,0,0,0", "1,1,0"), (0, "1,1,0,0,1", "0,0,1")]
    ):
        name = f"IMG{n:07}.jpg"
        rows.append(f"{name},{part},0,0,{fractured},{fractured},{views}")
        folder = ("Non_fractured", "Fractured")[fractured]
        _picture(root / "images" / folder / name, n)
    (root / "dataset.csv").write_text("\n".join(rows) + "\n")


def make_grazpedwri(root) -> None:
    head = (
        "filestem,patient_id,study_number,timehash,gender,age,laterality,projection,initial_exam,"
        "ao_classification,cast,diagnosis_uncertain,osteopenia,fracture_visible,metal,"
        "pixel_spacing,device_manufacturer"
    )
    rows = [
        head,
        "0001_1_01_WRI-L1_M014,1,1,1,M,14.1,L,1,1,23r-M/2.1,,,,1,,0.144,Siemens",
        "0001_2_01_WRI-L2_M014,1,1,2,M,14.1,L,2,1,,1,,,,,0.144,Siemens",
        "0002_3_01_WRI-R1_F012,2,1,3,F,12,R,1,1,,,,,1,,0.144,Siemens",
    ]
    (root / "dataset.csv").write_bytes(("\ufeff" + "\n".join(rows) + "\n").encode())
    for n, row in enumerate(rows[1:]):
        _picture(root / f"images_part{n % 2 + 1}" / f"{row.partition(',')[0]}.png", n)


def make_busi(root) -> None:
    for n, name in enumerate(("normal", "benign", "malignant", "malignant")):
        picture = root / name / f"{name} ({n}).png"
        _picture(picture, n)
        with Image.open(picture) as opened:
            size = opened.size
        for part, left in (("_mask", 0), ("_mask_1", 3)) if n == 2 else (("_mask", 0),):
            mask = np.zeros(size[::-1], np.uint8)
            mask[1:3, left : left + 2] = 255 * (n > 0)
            Image.fromarray(mask).save(picture.with_name(f"{picture.stem}{part}.png"))


MAKERS = {
    "mura": make_mura, "fracatlas": make_fracatlas, "grazpedwri": make_grazpedwri,
    "busi": make_busi,
}  # fmt: skip


class Loop:
    """A catalog and a vault of its own."""

    def __init__(self, catalog, vault) -> None:
        self.catalog, self.vault = catalog, vault
        self.names = Pseudonymiser(project_key(vault))

    def take(self, root, layout: str):
        """Return report of the intake, of the labels, and the scenario's cohort."""
        source = resolve_source(str(root), "here")
        taken = ingest(source, self.catalog, self.vault, self.names)
        config = LabelConfig(format=layout)
        report = attach_labels(source, config, self.names, self.catalog, self.vault)
        kind = "dicom" if layout == "rsna_pneumonia" else "picture"
        sets = {"here": latest_label_set(self.catalog, "here", label_set_name(config))}
        cohort = select(self.catalog, CohortConfig(kind=kind), config, sets)
        return taken, report, cohort


@pytest.fixture
def loop(tmp_path):
    catalog = open_catalog(f"sqlite:///{tmp_path}/catalog.db")
    vault = open_vault(f"sqlite:///{tmp_path}/vault.db")
    yield Loop(catalog, vault)
    catalog.dispose()
    vault.dispose()


@pytest.fixture
def made(tmp_path, request):
    root = tmp_path / ("GRAZPEDWRI" if request.param == "grazpedwri" else "set")
    root.mkdir()
    MAKERS[request.param](root)
    return request.param, root


@pytest.mark.parametrize(
    ("made", "patients", "targets", "rows"),
    [
        ("mura", 3, {"abnormal": 3, "normal": 4}, 4),
        ("fracatlas", 3, {"fracture": 1, "normal": 2}, 3),
        ("grazpedwri", 2, {"fracture": 2, "normal": 1}, 3),
    ],
    indirect=["made"],
)
def test_a_public_set_goes_from_its_folder_to_a_labelled_cohort(
    loop, made, patients, targets, rows, tmp_path, capsys
):
    layout, root = made
    assert main(["map", layout, str(root), "--home", str(tmp_path / "home")]) == 0
    printed = capsys.readouterr()
    assert f"{sum(targets.values())} pictures of {patients} patients" in printed.out
    assert ("names no patients" in printed.out) == (layout == "fracatlas")
    taken, report, cohort = loop.take(root, layout)
    assert taken.quarantined == {}
    assert (report.rows, report.matched, report.unmatched) == (rows, rows, ())
    found = list(cohort.targets.values())
    assert {name: found.count(name) for name in set(found)} == targets
    assert len({case.patient_key for case in cohort.cases}) == patients
    assert cohort.unmatched == 0


@pytest.mark.parametrize("made", ["busi"], indirect=True)
def test_busi_gives_classes_by_folder_and_masks_on_the_grid_of_their_pictures(
    loop, made, tmp_path, capsys
):
    _, root = made
    assert main(["map", "busi", str(root), "--home", str(tmp_path / "home")]) == 0
    printed = capsys.readouterr().out
    assert "4 pictures of 4 patients" in printed
    assert "BUSI names no patients" in printed
    assert "set-masks: 4 masks" in printed
    _, report, cohort = loop.take(root, "busi")
    assert sorted(cohort.targets.values()) == ["benign", "malignant", "malignant"]
    assert [reason for _, reason in report.unmatched] == ["the label is none of benign, malignant"]
    config = LabelConfig(format="masks", file="../set-masks", join="accession", classes=("mass",))
    source = resolve_source(str(root), "here")
    attach_labels(source, config, loop.names, loop.catalog, loop.vault)
    sets = {"here": latest_label_set(loop.catalog, "here", label_set_name(config))}
    outlined = select(loop.catalog, CohortConfig(kind="picture"), config, sets)
    assert len(outlined.masks) == 4
    mask = tmp_path / "set-masks" / "malignant (2).nii.gz"
    like = read_picture((root / "malignant" / "malignant (2).png").read_bytes(), None)
    found = read_labels_of(FileRef(str(mask), None, "", mask.stat().st_size), like)
    assert sorted(set(np.flatnonzero(found[0].any(0)))) == [0, 1, 3, 4], "the union of two masks"
    empty = tmp_path / "set-masks" / "normal (0).nii.gz"
    assert not read_labels_of(FileRef(str(empty), None, "", empty.stat().st_size), like).any()


def test_busi_says_which_folder_is_missing(tmp_path):
    make_busi(tmp_path)
    for path in (tmp_path / "benign").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="the folder benign of BUSI holds no PNG"):
        mapping_text("busi", tmp_path)


def test_all_views_of_a_study_share_its_label_and_a_patient_its_side(loop, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    make_mura(root)
    text, _ = mapping_text("mura", root)
    (root / "radloop-images.csv").write_text(text)
    _, report, cohort = loop.take(root, "mura")
    assert {row.join for row in label_rows(loop.catalog, report.label_set_id)} == {"accession"}
    studies = {}
    for case in cohort.cases:
        studies.setdefault(case.accession_key, set()).add(cohort.targets[case.case_id])
    assert len(studies) == 4
    assert all(len(labels) == 1 for labels in studies.values())
    # Wrist and hand of patient00001 are two studies of one patient.
    parts = {}
    for case in cohort.cases:
        parts.setdefault(case.patient_key, set()).add(case.facts["body_part"])
    assert sorted(map(sorted, parts.values())) == [["ELBOW"], ["HAND", "WRIST"], ["WRIST"]]


@pytest.mark.parametrize("made", ["grazpedwri"], indirect=True)
def test_spacing_view_side_and_confounders_come_from_the_table(made):
    layout, root = made
    text, _ = mapping_text(layout, root)
    row = next(iter(parse_mapping_table(text.encode()).rows.values()))
    assert row.spacing == (0.144, 0.144)
    expected = {"modality": "DX", "view": "AP", "laterality": "L", "sex": "M"}
    assert expected.items() <= row.facts.items()
    written = list(csv.DictReader(io.StringIO(text)))
    assert [line["cast"] for line in written] == ["0", "1", "0"]


def test_the_published_table_of_grazpedwri_is_read(shared_data):
    place = shared_data / "tables" / "grazpedwri_dataset.csv.gz"
    data = b"".join(gzip.decompress(place.read_bytes()).splitlines(keepends=True)[:2000])
    (labels,) = read_labels("grazpedwri", lambda name: data)
    lines = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert labels.table.problems == ()
    fractures = [row.value for row in labels.table.rows].count("fracture")
    assert len(labels.table.rows) == len(lines)
    assert fractures == sum(line["fracture_visible"] in ("1", "1.0") for line in lines) > 1_000
    images = grazpedwri.images(lambda name: data, (f"i/{row['filestem']}.png" for row in lines))
    assert len({image.patient for image in images}) == len({row["patient_id"] for row in lines})


def test_rsna_labels_find_dicom_by_patient_and_boxes_keep_their_pixels(loop, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    for n, patient in enumerate(("0004cfab", "00436515"), start=1):
        (root / f"{patient}.dcm").write_bytes(slice_file(1, series=n, patient=patient))
    table = (
        b"patientId,x,y,width,height,Target\n0004cfab,,,,,0\n"
        b"00436515,264.0,152.0,213.0,379.0,1\n00436515,562.0,152.0,256.0,453.0,1\n"
    )
    (root / "stage_2_train_labels.csv").write_bytes(table)
    _, report, cohort = loop.take(root, "rsna_pneumonia")
    assert (report.rows, report.matched) == (3, 3)
    assert sorted(cohort.targets.values()) == ["no_opacity", "opacity"]
    boxes = rsna_pneumonia.boxes(table)
    assert [(box.line, box.start, box.stop) for box in boxes] == [
        (3, (152.0, 264.0), (531.0, 477.0)),
        (4, (152.0, 562.0), (605.0, 818.0)),
    ]
    with pytest.raises(ValueError, match=r"stage_2_train_labels.csv line 3: the box has a side"):
        rsna_pneumonia.boxes(table.replace(b"264.0", b""))


def test_a_wrong_line_is_told_with_file_and_line_and_without_its_patient(loop, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    make_mura(root)
    (root / "radloop-images.csv").write_text(mapping_text("mura", root)[0])
    table = root / "valid_labeled_studies.csv"
    table.write_text(table.read_text().replace(",1", ",0"))
    _, report, _ = loop.take(root, "mura")
    assert report.matched == 3
    ((line, reason),) = report.unmatched
    assert (line, reason.partition(":")[0]) == (1, "valid_labeled_studies.csv")
    assert "contradicts" in reason
    assert "patient11185" not in repr(report)


def test_a_folder_of_another_layout_is_refused_by_the_file_it_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no train_image_paths.csv"):
        mapping_text("mura", tmp_path)
    (tmp_path / "dataset.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"dataset.csv has no column 'image_id'"):
        mapping_text("fracatlas", tmp_path)
    make_fracatlas(tmp_path)
    next(tmp_path.rglob("IMG0000000.jpg")).unlink()
    with pytest.raises(ValueError, match=r"dataset.csv line 2: its image is not below"):
        mapping_text("fracatlas", tmp_path)
    with pytest.raises(ValueError, match=r"train_image_paths.csv line 1: not a path of MURA"):
        mura.images(lambda name: b"elsewhere/Jane_Doe.png\n", ())


def test_another_mapping_is_never_overwritten(tmp_path, capsys):
    make_fracatlas(tmp_path)
    (tmp_path / "radloop-images.csv").write_text("file,patient\nown.png,P1\n")
    assert main(["map", "fracatlas", str(tmp_path), "--home", str(tmp_path / "home")]) == 1
    assert "holds another radloop-images.csv" in capsys.readouterr().err
    assert "own.png" in (tmp_path / "radloop-images.csv").read_text()


def test_every_public_format_has_its_reader_and_knows_its_own_file():
    assert set(PUBLIC) == {name for name, one in LAYOUTS.items() if hasattr(one, "class_labels")}
    from tasks.labels.formats import MAPPED

    mapped = {name for name, one in LAYOUTS.items() if hasattr(one, "images")}
    assert set(MAPPED) == {*MAKERS, "luna16"} == mapped, "luna16 is tested in test_lung.py"
    with pytest.raises(ValueError, match="know their column themselves"):
        LabelConfig(format="mura", column="label")
    assert LabelConfig(format="mura").positive == "abnormal"


def test_a_picture_in_the_folder_of_the_other_class_is_refused(tmp_path):
    make_fracatlas(tmp_path)
    place = tmp_path / "images" / "Fractured" / "IMG0000000.jpg"
    place.rename(tmp_path / "images" / "Non_fractured" / place.name)
    with pytest.raises(ValueError, match=r"dataset.csv line 2: its value of fractured contradicts"):
        mapping_text("fracatlas", tmp_path)


def test_a_flag_of_grazpedwri_that_is_none_is_told_with_its_line(tmp_path):
    make_grazpedwri(tmp_path)
    table = tmp_path / "dataset.csv"
    table.write_text(table.read_text("utf-8").replace(",2,1,,1,,,,,0.144", ",2,1,,yes,,,,,0.144"))
    with pytest.raises(ValueError, match=r"dataset.csv line 3: the value is neither 0 nor 1 in"):
        mapping_text("grazpedwri", tmp_path)
