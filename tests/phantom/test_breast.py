"""Drawn breast ultrasound has Rayleigh speckle, and no brightness tells its classes."""

import csv

import numpy as np
import pytest
from pydicom import dcmread
from sklearn.metrics import roc_auc_score

from tasks.archive.nifti import read_mask, read_nifti
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.labels.boxes import box_of_picture, instance_mask, rows_on
from tasks.labels.coco import read_coco
from tasks.learn.boxes import boxes_of_instances, boxes_on
from tasks.phantom.breast import CLASSES, draw_breast
from tasks.phantom.ultrasound import SNR_RAYLEIGH, speckle
from tasks.phantom.write import MARK
from tasks.phantom.write_breast import write_breast_archive

SMALL = {"shape": (128, 128), "spacing": (0.34, 0.34)}


@pytest.fixture(scope="module")
def pictures():
    return [draw_breast(seed, **SMALL) for seed in range(140)]


def test_even_tissue_gives_rayleigh_speckle_of_its_strength():
    rng = np.random.default_rng(0)
    even = np.ones((600, 600), dtype=np.float32)
    for wide in (2.0, np.linspace(1.5, 4, 600)[:, None]):
        envelope = speckle(rng, even, 1.2, wide)[10:-10, 20:-20]
        assert envelope.mean() / envelope.std() == pytest.approx(SNR_RAYLEIGH, abs=0.06)
        # Quartiles of a Rayleigh law, in units of its mean.
        found = np.quantile(envelope, (0.25, 0.5, 0.75)) / envelope.mean()
        np.testing.assert_allclose(found, (0.605, 0.939, 1.329), atol=0.03)
        twice = speckle(rng, 2 * even, 1.2, wide)[10:-10, 20:-20]
        assert twice.mean() / envelope.mean() == pytest.approx(2, rel=0.05)


def test_the_same_seed_draws_the_same_picture(pictures):
    again = draw_breast(7, **SMALL)
    np.testing.assert_array_equal(again.image, pictures[7].image)
    np.testing.assert_array_equal(again.mask, pictures[7].mask)


def test_classes_have_their_shares_and_masks_their_mass(pictures):
    targets = [p.target for p in pictures]
    shares = [targets.count(c) / len(targets) for c in CLASSES]
    np.testing.assert_allclose(shares, (0.17, 0.52, 0.31), atol=0.09)
    for picture in pictures:
        assert picture.mask.any() == (picture.mass is not None)
        if picture.mass is not None:
            half = picture.mass.radius
            area = picture.mask.sum() * SMALL["spacing"][0] ** 2
            assert 0.25 * np.pi * half**2 < area < 1.8 * np.pi * half**2


def test_a_mass_is_darker_than_what_lies_about_it_but_not_always(pictures):
    darker = []
    for picture in (p for p in pictures if p.mass is not None):
        rows = np.flatnonzero(picture.mask.any(1))
        beside = np.zeros_like(picture.mask)
        beside[rows[0] : rows[-1] + 1] = True
        beside &= ~picture.mask
        darker.append(picture.image[picture.mask].mean() < picture.image[beside].mean())
    assert 0.75 < np.mean(darker) <= 1.0


def test_a_shadow_lies_below_its_mass_and_a_cyst_brightens_what_is_below():
    below = {}
    for seed in range(60):
        picture = draw_breast(seed, **SMALL, difficulty="easy")
        mass = picture.mass
        if mass is None or mass.posterior not in {"shadow", "enhancement"}:
            continue
        bottom = np.flatnonzero(picture.mask.any(1))[-1] + 2
        columns = picture.mask.sum(0) > 0.7 * picture.mask.sum(0).max()
        strip = picture.image[bottom : bottom + 20]
        if strip.shape[0] == 20:
            ratio = strip[:, columns].mean() / strip[:, ~columns].mean()
            below.setdefault(mass.posterior, []).append(ratio)
    assert np.median(below["shadow"]) < 0.7
    assert np.median(below["enhancement"]) > 1.0


def test_no_brightness_tells_benign_from_malignant_or_a_mass_from_none(pictures):
    masses = [p for p in pictures if p.mass is not None]
    malignant = [p.mass.malignant for p in masses]
    present = [p.mass is not None for p in pictures]
    for statistic in (np.mean, np.std, np.median, lambda im: np.quantile(im, 0.05)):
        for cases, truth in ((masses, malignant), (pictures, present)):
            area = roc_auc_score(truth, [statistic(p.image) for p in cases])
            assert max(area, 1 - area) < 0.75


def test_otsu_does_not_find_the_mass(pictures):
    from skimage.filters import gaussian, threshold_otsu

    dices = []
    for picture in (p for p in pictures if p.mass is not None):
        smooth = gaussian(picture.image.astype(float), 2)
        dark = smooth < threshold_otsu(smooth)
        dices.append(2 * (dark & picture.mask).sum() / (dark.sum() + picture.mask.sum()))
    assert np.mean(dices) < 0.4


def test_an_unknown_class_or_difficulty_is_named():
    with pytest.raises(ValueError, match="normal, benign, malignant"):
        draw_breast(1, target="cyst")
    with pytest.raises(ValueError, match="easy, standard, hard"):
        draw_breast(1, difficulty="")


def test_the_archive_is_dicom_with_masks_on_its_grid(tmp_path):
    labels = write_breast_archive(tmp_path, patients=12, seed=2, **SMALL)
    with labels.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12
    syntaxes = set()
    for row in rows:
        (path,) = (tmp_path / "dicom").rglob(f"{row['accession_number']}/US0000.dcm")
        head = dcmread(path)
        assert head.PatientID == row["patient_id"]
        assert head.PatientID.startswith(MARK)
        assert "SYNTHETIC" in head.SeriesDescription
        syntaxes.add(head.file_meta.TransferSyntaxUID)
        volume = read_volume("dicom", [FileRef(str(path), None, "", path.stat().st_size)])
        np.testing.assert_array_equal(volume.array[0], head.pixel_array)
        ref = tmp_path / "truth" / "masks" / f"{row['accession_number']}.nii.gz"
        mask = read_mask(FileRef(str(ref), None, "", ref.stat().st_size), volume)
        assert mask.any() == (row["target"] != "normal") == bool(row["margin"])
    assert len(syntaxes) > 2
    again = tmp_path / "again"
    write_breast_archive(again, patients=3, seed=2, **SMALL)
    for path in again.rglob("*.dcm"):
        assert path.read_bytes() == (tmp_path / path.relative_to(again)).read_bytes()


def test_outlines_are_drawn_around_the_masks_and_every_picture_is_listed(tmp_path):
    write_breast_archive(tmp_path, patients=12, seed=2, **SMALL)
    content = read_coco((tmp_path / "truth" / "outlines.json").read_bytes())
    assert content.problems == ()
    without = 0
    for name, told in content.images.items():
        path = tmp_path / "truth" / "masks" / f"{name.removesuffix('.dcm')}.nii.gz"
        mask = read_nifti(FileRef(str(path), None, "", path.stat().st_size)).array
        boxes = [box_of_picture(box) for box, _ in told]
        rows = rows_on(boxes, ("mass",), mask.shape, np.eye(4))
        drawn = instance_mask(boxes, rows, mask.shape, np.eye(4))
        np.testing.assert_array_equal(drawn, mask)
        np.testing.assert_array_equal(
            boxes_on(rows, np.eye(4)), boxes_of_instances(mask)[1].reshape(-1, 2, 3)
        )
        without += not told
    assert len(content.images) == 12
    assert 0 < without < 12
