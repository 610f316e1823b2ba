"""Folders whose names say what their NIfTI files are."""

import json

import numpy as np
import pytest

from tasks.archive.layouts import layout_name, mask_values, read_layout
from tasks.archive.nifti import read_mask, read_nifti, write_nifti
from tasks.archive.sources import FileRef, resolve_source


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_brats_before_and_since_2023_name_their_sequences_alike(tmp_path):
    old, new, later = "BraTS2021_00003", "BraTS-GLI-00005-000", "BraTS-GLI-00005-001"
    touch(tmp_path, *(f"{old}/{old}_{w}.nii.gz" for w in ("t1", "t1ce", "t2", "flair", "seg")))
    touch(tmp_path, *(f"{new}/{new}-{w}.nii.gz" for w in ("t1n", "t1c", "t2w", "t2f", "seg")))
    touch(tmp_path, *(f"more/{later}/{later}-{w}.nii" for w in ("t1n", "t2f")))
    layout = read_layout(tmp_path)
    assert layout.name == layout_name(tmp_path) == "brats"
    told = {path: (one.patient, one.sequence) for path, one in layout.images.items()}
    assert told[f"{old}/{old}_t1ce.nii.gz"] == (old, "t1c")
    assert told[f"{old}/{old}_flair.nii.gz"] == (old, "t2f")
    # Two time points of one patient must never stand on two sides of a split.
    assert told[f"{new}/{new}-t1c.nii.gz"] == ("BraTS-GLI-00005", "t1c")
    assert told[f"more/{later}/{later}-t2f.nii"] == ("BraTS-GLI-00005", "t2f")
    assert len({one.study for one in layout.images.values()}) == 3
    assert set(layout.masks) == {f"{old}/{old}_seg.nii.gz", f"{new}/{new}-seg.nii.gz"}
    assert resolve_source(str(tmp_path)).kind == "decathlon"


def test_a_raw_set_of_nnunet_with_channels(tmp_path):
    touch(tmp_path, *(f"imagesTr/p_{n}_000{c}.nii.gz" for n in (1, 2) for c in (0, 1)))
    touch(tmp_path, "imagesTs/p_3_0000.nii.gz", "labelsTr/p_1.nii.gz", "imagesTr/notes.txt")
    content = {"channel_names": {"0": "T1", "1": "FLAIR"}, "file_ending": ".nii.gz", "labels": {}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    layout = read_layout(tmp_path)
    assert layout.name == "nnunet"
    assert {path: one.sequence for path, one in layout.images.items()} == {
        "imagesTr/p_1_0000.nii.gz": "t1",
        "imagesTr/p_1_0001.nii.gz": "flair",
        "imagesTr/p_2_0000.nii.gz": "t1",
        "imagesTr/p_2_0001.nii.gz": "flair",
        "imagesTs/p_3_0000.nii.gz": "t1",
    }
    assert {one.modality for one in layout.images.values()} == {"MR"}
    assert layout.images["imagesTr/p_1_0001.nii.gz"].study == "p_1"
    assert dict(layout.masks) == {"labelsTr/p_1.nii.gz": "imagesTr/p_1_0000.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "file_ending": ".png"}))
    with pytest.raises(ValueError, match="only NIfTI is read"):
        read_layout(tmp_path)


def test_a_folder_of_anything_else_has_no_layout(tmp_path):
    touch(tmp_path, "a/b/scan.nii.gz", "a/b/IM0001", "a/other_t1.nii.gz")
    assert layout_name(tmp_path) is None
    assert layout_name(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("x/BraTS2021_00000_seg.nii.gz", {4: 3}),
        ("BraTS20_Training_001_seg.nii", {4: 3}),
        # 4 is the resection cavity since 2024, and anything at all in other sets.
        ("x/BraTS-GLI-00000-000-seg.nii.gz", {}),
        ("x/case_seg.nii.gz", {}),
    ],
)
def test_the_enhancing_tumour_is_3_whatever_the_year(tmp_path, name, values):
    assert mask_values(name) == values
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0] = [1, 2, 3, 4] if not values else [1, 2, 4, 4]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, labels, np.eye(4))
    ref = FileRef(str(path), None, "", path.stat().st_size)
    found = read_mask(ref, read_nifti(ref))
    np.testing.assert_array_equal(found[0, 0], [1, 2, 3, 3] if values else [1, 2, 3, 4])
