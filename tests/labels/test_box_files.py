"""Tables, COCO and public data sets of boxes find their cases; half a truth is no truth."""

import json

import numpy as np
import pytest
from pycocotools.mask import encode
from pydantic import ValidationError

from tasks.archive.catalog import cases, label_rows
from tasks.labels.attach import attach_labels
from tasks.labels.box_files import read_boxes
from tasks.labels.boxes import instance_mask, read_written, rows_on
from tasks.labels.config import LabelConfig, label_set_name
from tasks.labels.keys import AttachReport
from tasks.labels.runs import read_runs
from tests.archive.made_dicom import ROOT
from tests.labels.test_attach import Archive

HEADER = "accession,label,xmin,ymin,xmax,ymax\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    made = Archive(tmp_path_factory.mktemp("boxes"))
    yield made
    made.catalog.dispose()
    made.vault.dispose()


def attach(archive: Archive, files: dict[str, str], **more) -> AttachReport:
    for name, content in files.items():
        (archive.root / name).write_text(content)
    values = {"format": "boxes", "file": "boxes.csv", "join": "accession", "column": "label"}
    values |= {"classes": ("break", "metal")} | more
    config = LabelConfig(**{name: value for name, value in values.items() if value is not None})
    return attach_labels(archive.source, config, archive.names, archive.catalog, archive.vault)


def said(archive: Archive, report: AttachReport) -> list[list]:
    """Return the boxes of each row, the row with most boxes first."""
    rows = label_rows(archive.catalog, report.label_set_id)
    return sorted((list(read_written(row.value)) for row in rows), key=len, reverse=True)


def test_boxes_of_a_case_become_one_row_and_an_empty_box_says_nothing_is_there(archive):
    content = HEADER + "ACC00001,break,1,2,5,8\nACC00001,metal,0,0,2,2\nACC00002,,,,,\n"
    report = attach(archive, {"boxes.csv": content + "ACC00001,break,1,2,5,8\n"})
    assert (report.rows, report.matched, report.unmatched) == (4, 4, ())
    both, none = said(archive, report)
    assert none == []
    assert {one.name for one in both} == {"break", "metal"}
    (broken,) = (one for one in both if one.name == "break")
    # Pixel i reaches from i to i + 1 in the file, and from i - 1/2 to i + 1/2 here.
    assert broken.numbers == (-0.5, 1.5, 0.5, 0.5, 7.5, 4.5)


def test_a_line_that_cannot_be_used_leaves_its_case_out_whole(archive):
    content = (
        HEADER + "ACC00001,break,1,2,5,8\nACC00001,crack,1,2,5,8\nACC00002,break,9,2,5,8\n"
        "ACC00003,break,1,2,5,x\nACC99999,break,1,2,5,8\n1234.0,break,1,2,5,8\n"
    )
    report = attach(archive, {"boxes.csv": content})
    assert [line for line, _ in report.unmatched] == [3, 4, 5, 6, 7]
    assert all("left out whole" in reason for _, reason in report.unmatched[:3])
    assert report.label_set_id is None
    assert "ACC" not in repr(report)


def test_a_case_left_out_is_not_of_the_rest_and_a_damaged_key_may_be_anybody(archive):
    content = HEADER + "ACC00001,break,1,2,5,8\nACC00002,break,9,2,5,8\nACC99999,break,1,2,5,8\n"
    report = attach(archive, {"boxes.csv": content}, normals="rest")
    assert [len(boxes) for boxes in said(archive, report)] == [1, 0]
    report = attach(archive, {"boxes.csv": content + "1234.0,break,1,2,5,8\n"}, normals="rest")
    assert [len(boxes) for boxes in said(archive, report)] == [1]
    assert "1 lines name no case" in report.unmatched[0][1]


def test_normals_are_a_table_or_the_rest_and_contradict_no_box(archive):
    files = {
        "boxes.csv": HEADER + "ACC00001,break,1,2,5,8\n",
        "normal.csv": "accession\nACC00003\n",
    }
    report = attach(archive, files, normals="normal.csv")
    assert [len(boxes) for boxes in said(archive, report)] == [1, 0]
    report = attach(archive, files, normals="rest")
    assert [len(boxes) for boxes in said(archive, report)] == [1, 0, 0]
    files["normal.csv"] += "ACC00001\n"
    report = attach(archive, files, normals="normal.csv")
    assert [len(boxes) for boxes in said(archive, report)] == [0]
    assert "among the normals" in report.unmatched[0][1]


def test_the_rest_of_boxes_joined_on_images_are_the_other_series(archive):
    sop = f"{ROOT}.3.1.1"
    content = f"sop_instance_uid,label,xmin,ymin,xmax,ymax\n{sop},break,1,2,5,8\n"
    report = attach(archive, {"boxes.csv": content}, join="sop", normals="rest")
    assert [len(boxes) for boxes in said(archive, report)] == [1, 0, 0]
    rest = {
        row.key for row in label_rows(archive.catalog, report.label_set_id) if row.value == "[]"
    }
    assert len(rest & {case.case_id for case in cases(archive.catalog, kind="dicom")}) == 2


def test_world_boxes_are_turned_from_ras_to_lps(archive):
    content = "accession,x,y,z,diameter_mm,irrelevant\nACC00001,10,-20,30,6,0\nACC00001,1,2,3,4,1\n"
    more = {"column": None, "classes": ("nodule",), "coordinates": "ras"}
    first, second = sorted(
        said(archive, attach(archive, {"boxes.csv": content}, **more))[0],
        key=lambda one: one.irrelevant,
    )
    assert first.numbers == (-10, 20, 30, 0, 0, 6, 0, 6, 0, 6, 0, 0)
    assert first.ball
    assert second.irrelevant


def test_missing_columns_are_told_with_their_remedy(archive):
    with pytest.raises(ValueError, match=r"no column 'xmin'.*labels\.columns"):
        attach(archive, {"boxes.csv": "accession,label,left\nACC00001,break,3\n"})
    renamed = {"xmin": "left", "ymin": "top", "xmax": "right", "ymax": "bottom"}
    content = "accession,label,left,top,right,bottom\nACC00001,break,1,2,5,8\n"
    report = attach(archive, {"boxes.csv": content}, columns=renamed)
    assert report.matched == 1


def coco(**more) -> str:
    body = {
        "images": [{"id": n, "file_name": f"films/ACC0000{n}.png"} for n in (1, 2)],
        "categories": [{"id": 1, "name": "text"}, {"id": 7, "name": "break"}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [2, 3, 4, 5], "iscrowd": 0,
             "segmentation": [[2, 3, 6, 3, 6, 8]]},
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]},
            {"image_id": 1, "category_id": 7, "bbox": [9, 9, 4, 4], "iscrowd": 1,
             "segmentation": {"counts": [1, 2], "size": [20, 20]}},
        ],
    }  # fmt: skip
    return json.dumps(body | more)


def test_coco_finds_images_by_name_and_leaves_other_classes_aside(archive):
    more = {"format": "coco", "file": "all.json", "column": None, "classes": ("break",)}
    report = attach(archive, {"all.json": coco()}, **more)
    found, none = said(archive, report)
    assert none == []
    outlined, crowd = sorted(found, key=lambda one: one.irrelevant)
    assert outlined.numbers == (-0.5, 2.5, 1.5, 0.5, 7.5, 5.5)
    assert outlined.rings == (((2.5, 1.5), (2.5, 5.5), (7.5, 5.5)),)
    assert crowd.irrelevant
    assert crowd.rings == ()
    bad = [{"image_id": 1, "category_id": 7, "bbox": [2, 3, 0, 5]}]
    report = attach(archive, {"all.json": coco(annotations=bad)}, **more)
    assert said(archive, report) == [[]]
    assert "no area" in report.unmatched[0][1]


def test_masks_of_coco_are_outlines_and_not_rectangles(archive):
    more = {"format": "coco", "file": "all.json", "column": None, "classes": ("break",)}
    inside = np.zeros((20, 30), bool)
    inside[4:9, 3:12], inside[6, 5:8] = True, False
    packed = encode(np.asfortranarray(inside, np.uint8))["counts"].decode()
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, inside.ravel("F"), 0])), prepend=0).tolist()
    runs.append(inside.size - sum(runs))
    one = {"image_id": 1, "category_id": 7, "bbox": [3, 4, 9, 5], "iscrowd": 0}
    for counts in (packed, runs):
        told = one | {"segmentation": {"size": [20, 30], "counts": counts}}
        found = said(archive, attach(archive, {"all.json": coco(annotations=[told])}, **more))[0]
        assert found[0].size == (20, 30)
        rows = rows_on(found, ("break",), (1, 20, 30), np.eye(4))
        np.testing.assert_array_equal(instance_mask(found, rows, (1, 20, 30), np.eye(4))[0], inside)
    for bad, why in (
        ({"counts": runs[:-1]}, "not of 20 x 30 pixels"),
        ({"counts": [600]}, "mask is empty"),
        ({"counts": "~"}, "is damaged"),
        ({"counts": packed + "P"}, "is damaged"),
        ({"counts": [0, -1, 601]}, "is damaged"),
        ({"size": [20]}, "is damaged"),
        ({"size": [30, 20]}, "reaches out of its bbox"),
    ):
        told = one | {"segmentation": {"size": [20, 30], "counts": runs} | bad}
        report = attach(archive, {"all.json": coco(annotations=[told])}, **more)
        assert why in report.unmatched[0][1]


@pytest.mark.parametrize("seed", range(5))
def test_packed_masks_are_read_as_pycocotools_writes_them(seed):
    rng = np.random.default_rng(seed)
    inside = rng.random((37, 211)) < (0.5, 0.01, 0.99, 0.1, 0.3)[seed]
    if seed == 4:  # long runs, whose lengths fall and rise
        inside = np.kron(inside[:4, :9], np.ones((90, 70), bool))
    told = encode(np.asfortranarray(inside, np.uint8))
    runs = read_runs({"size": told["size"], "counts": told["counts"].decode()})
    np.testing.assert_array_equal(runs.mask(), inside)


def test_a_name_that_two_images_of_coco_share_names_neither(archive):
    more = {"format": "coco", "file": "all.json", "column": None, "classes": ("break",)}
    files = ("left/ACC00001.png", "right/ACC00001.png", "right/ACC00002.png")
    images = [{"id": n, "file_name": file} for n, file in enumerate(files, start=1)]
    bad = [{"image_id": n, "category_id": 7, "bbox": [n, n, 4, 5]} for n in (1, 2, 3)]
    report = attach(archive, {"all.json": coco(images=images, annotations=bad)}, **more)
    assert [[box.numbers[1] for box in one] for one in said(archive, report)] == [[2.5]]
    assert [reason for _, reason in report.unmatched] == ["COCO: no case has this accession"] * 4


@pytest.mark.parametrize("size", [{"height": 40, "width": 30}, {"height": 0, "width": 0}, {}])
def test_boxes_of_coco_keep_the_size_of_their_picture(archive, size):
    more = {"format": "coco", "file": "all.json", "column": None, "classes": ("break",)}
    images = [{"id": 1, "file_name": "ACC00001.png"} | size]
    report = attach(archive, {"all.json": coco(images=images)}, **more)
    expected = (40, 30) if size.get("height") else None
    assert {box.size for box in said(archive, report)[0]} == {expected}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {}}, "no COCO JSON"),
        ({"categories": [{"id": 1, "name": "crack"}]}, "not listed"),
        ({"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}]}, "two images"),
    ],
)
def test_damaged_coco_is_told(archive, change, message):
    more = {"format": "coco", "file": "all.json", "column": None, "classes": ("break",)}
    with pytest.raises(ValueError, match=message):
        attach(archive, {"all.json": coco(**change)}, **more)


def reading(files: dict[str, str]):
    def read(name: str) -> bytes:
        try:
            return files[name].encode()
        except KeyError:
            raise FileNotFoundError(name) from None

    return read


def test_luna16_counts_excluded_findings_for_nothing():
    line = "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,1,2,3,{}\n"
    files = {"annotations.csv": line.format(5)}
    (only,) = read_boxes(LabelConfig(format="luna16"), reading(files))
    assert only.entries[0].box.ball
    files["annotations_excluded.csv"] = line.format(-1)
    _, excluded = read_boxes(LabelConfig(format="luna16"), reading(files))
    assert excluded.entries[0].box.irrelevant
    assert excluded.entries[0].keys == ("1.2.3",)


def test_grazpedwri_reads_shares_and_refuses_files_that_are_not_there():
    files = {
        "dataset.csv": "filestem,patient_id\na,1\nb,1\nc,2\nd,3\ne,4\nf,5\ng,6\n",
        "labels/a.txt": "3 0.5 0.5 0.2 0.1\n8 0.1 0.1 0.1 0.1\n",
        "folder_structure/yolov5/labels/b.txt": "8 0.1 0.1 0.1 0.1\n",
        "labels/c.txt": "fracture\n",
        "labels/e.txt": "3 0.5 0.5 0.2 0.0\n",
        "labels/f.txt": "3 nan 0.5 0.2 0.1\n",
        "labels/g.txt": "3 250 310 40 30\n",
    }
    (found,) = read_boxes(LabelConfig(format="grazpedwri_boxes"), reading(files))
    boxes = [(one.keys[0], one.box) for one in found.entries if one.box]
    assert [key for key, _ in boxes] == ["a"]
    assert boxes[0][1].numbers == pytest.approx((0, 0.45, 0.4, 1, 0.55, 0.6))
    assert ("b", None) in [(one.keys[0], one.box) for one in found.entries]
    assert [keys for *_, keys in found.problems] == [(key,) for key in "cdefg"]


def test_rsna_pneumonia_reads_lines_without_a_box_as_nothing_there():
    table = "patientId,x,y,width,height,Target\np,1,2,3,4,1\np,5,5,1,1,1\nq,,,,,0\n"
    config = LabelConfig(format="rsna_pneumonia_boxes")
    (found,) = read_boxes(config, reading({"stage_2_train_labels.csv": table}))
    assert [one.box is None for one in found.entries] == [False, False, True]
    assert found.entries[0].box.numbers == (-0.5, 1.5, 0.5, 0.5, 5.5, 3.5)


def test_fracatlas_takes_whole_bones_from_its_table():
    place = "Annotations/COCO JSON/COCO_fracture_masks.json"
    images = [{"id": 1, "file_name": "a.jpg"}]
    body = coco(images=images, categories=[{"id": 7, "name": "fractured"}], annotations=[])
    files = {place: body, "dataset.csv": "image_id,fractured\na.jpg,1\nb.jpg,0\nc.jpg,1\n"}
    found = read_boxes(LabelConfig(format="fracatlas_boxes"), reading(files))
    assert [one.keys[0] for file in found for one in file.entries] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "table", "normals": "rest"}, "no key normals"),
        ({"format": "coco", "file": "a", "classes": ("a",), "columns": {"x": "y"}}, "key columns"),
        ({"format": "boxes", "file": "a", "join": "sop", "classes": ("a", "b")}, "need `column`"),
        ({"format": "boxes", "file": "a", "join": "sop", "classes": ("a",),
          "columns": {"left": "xmin"}}, "can be renamed"),
        ({"format": "boxes", "file": "a", "classes": ("a",)}, "need join"),
    ],
)  # fmt: skip
def test_keys_that_would_not_be_read_are_refused(values, message):
    whole = {"file": "a", "join": "sop", "column": "c", "classes": ("a",)}
    with pytest.raises(ValidationError, match=message):
        LabelConfig(**(whole | values if values["format"] == "table" else values))


def test_other_columns_make_another_label_set():
    values = {"format": "boxes", "file": "a.csv", "join": "sop", "classes": ("a",)}
    one, other = LabelConfig(**values), LabelConfig(**values, normals="rest")
    assert label_set_name(one) != label_set_name(other)
    assert "normals" not in one.model_dump()
