"""A data set folder in nnU-Net's raw form."""

import json

import nibabel
import numpy as np
import pytest

from tasks.archive.nnunet import NnunetFolder
from tasks.archive.volume import Volume


def volume(modality="CT", seed=0):
    array = np.random.default_rng(seed).integers(-1000, 900, (3, 4, 5)).astype(np.int16)
    return Volume(array, np.diag([2.5, 0.8, 0.7, 1.0]), {}, {"modality": modality})


def mask(top):
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[1, :, : top + 1] = np.arange(top + 1)
    return labels


def test_images_labels_and_description_are_where_nnunet_looks(tmp_path):
    folder = NnunetFolder(tmp_path, 1, "radloop")
    folder.add("case_a", volume(), mask(2))
    folder.add("case_b", volume(seed=1), mask(1))
    folder.add("case_c", volume(seed=2), None)
    assert folder.close() == [0, 1, 2]
    root = tmp_path / "Dataset001_radloop"
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    assert names == [
        "dataset.json",
        "imagesTr/case_a_0000.nii.gz",
        "imagesTr/case_b_0000.nii.gz",
        "imagesTs/case_c_0000.nii.gz",
        "labelsTr/case_a.nii.gz",
        "labelsTr/case_b.nii.gz",
    ]
    assert json.loads((root / "dataset.json").read_text()) == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "label_1": 1, "label_2": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    image = nibabel.load(root / "imagesTr/case_a_0000.nii.gz")
    label = nibabel.load(root / "labelsTr/case_a.nii.gz")
    np.testing.assert_array_equal(image.affine, label.affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, volume().array)
    np.testing.assert_array_equal(np.asarray(label.dataobj).T, mask(2))


def test_label_values_with_gaps_are_refused_with_the_values(tmp_path):
    folder = NnunetFolder(tmp_path, 1, "radloop")
    folder.add("a", volume(), mask(2) * 2)
    with pytest.raises(ValueError, match="label values 0, 2, 4, nnU-Net wants 0 to 2"):
        folder.close()
    assert not (folder.path / "dataset.json").exists()


def test_two_kinds_of_image_in_one_data_set_are_refused(tmp_path):
    folder = NnunetFolder(tmp_path, 1, "radloop")
    folder.add("a", volume(), None)
    with pytest.raises(ValueError, match=r"2 \(CT, MR\)"):
        folder.add("b", volume("MR"), None)
