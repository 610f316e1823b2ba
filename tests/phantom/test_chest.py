"""Drawn chests hold nodules as LIDC-IDRI has them, and no threshold finds them."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from tasks.phantom.chest import draw_chest
from tasks.phantom.nodules import (
    DIAMETERS,
    LARGEST,
    QUANTILES,
    RATINGS,
    READER_SHARES,
    depth_below_surface,
    draw_nodule,
)
from tasks.phantom.scanner import SCANNERS, scan

SEEDS = range(100, 105)


@pytest.fixture(scope="module")
def scans():
    drawn = [draw_chest(seed, nodules=3) for seed in SEEDS]
    return [
        (chest, scan(chest.body, chest.spacing, SCANNERS[i % len(SCANNERS)], i))
        for i, chest in enumerate(drawn)
    ]


def test_the_same_seed_draws_the_same_chest(scans):
    chest, image = scans[0]
    again = draw_chest(SEEDS[0], nodules=3)
    np.testing.assert_array_equal(again.body, chest.body)
    np.testing.assert_array_equal(again.labels, chest.labels)
    np.testing.assert_array_equal(scan(again.body, again.spacing, SCANNERS[0], 0), image)


def test_tissues_have_the_hu_they_have_in_people(scans):
    for chest, image in scans:
        lung = chest.lungs & (chest.labels == 0)
        assert -900 < np.median(image[lung]) < -800
        assert image[:, :8].mean() < -900
        assert (image > 400).mean() > 0.005
        # Lungs of a slab of ten centimetres: one to three litres.
        assert 0.8e6 < lung.sum() * np.prod(chest.spacing) < 3e6


def test_nodules_lie_in_the_lung_and_have_their_size(scans):
    for chest, _ in scans:
        for number, nodule in enumerate(chest.nodules, start=1):
            where = np.argwhere(chest.labels == number)
            if not len(where):
                assert nodule.diameter < 5
                continue
            middle = (where.mean(0) - (np.array(chest.body.shape) - 1) / 2) * chest.spacing
            assert np.linalg.norm(middle - nodule.centre) < 0.35 * nodule.diameter + 2.5
            ball = np.pi / 6 * nodule.diameter**3
            assert len(where) * np.prod(chest.spacing) < 1.7 * ball + 20


def test_a_larger_matrix_shows_the_same_kind_of_chest():
    small = draw_chest(5, nodules=1, shape=(20, 64, 64), spacing=(5, 5, 5))
    assert small.body.shape == small.labels.shape == (20, 64, 64)
    assert -900 < np.median(small.body[small.lungs]) < -800
    with pytest.raises(ValueError, match="easy, standard, hard"):
        draw_chest(5, difficulty="heavy")


def test_a_round_nodule_has_the_volume_of_its_outline():
    rng = np.random.default_rng(3)
    nodule = draw_nodule(rng, "inside", "easy")
    line = np.arange(-30, 30, 0.5, dtype=np.float32)
    axes = [line[:, None, None], line[None, :, None], line[None, None, :]]
    longest = 0.0
    for cut in (depth_below_surface(nodule, axes) > 0).nonzero():
        longest = max(longest, np.ptp(cut) * 0.5)
    assert longest == pytest.approx(nodule.diameter, rel=0.35)


def test_the_table_of_readers_is_drawn_from():
    rng = np.random.default_rng(0)
    drawn = [draw_nodule(rng, "inside", "standard") for _ in range(2500)]
    readers = np.bincount([len(n.reader_diameters) for n in drawn], minlength=5)[1:] / 2500
    np.testing.assert_allclose(readers, READER_SHARES, atol=0.03)
    for k, row in enumerate(DIAMETERS, start=1):
        found = np.quantile(
            [n.diameter for n in drawn if len(n.reader_diameters) == k], QUANTILES[1:5]
        )
        np.testing.assert_allclose(found, np.minimum(row, LARGEST)[1:5], rtol=0.15)
    spread = np.mean([np.std(n.reader_diameters, ddof=1) / n.diameter for n in drawn
                      if len(n.reader_diameters) == 4])  # fmt: skip
    assert 0.07 < spread < 0.11


def test_the_constants_are_those_of_the_lidc_table(shared_data):
    from scipy.cluster.hierarchy import fcluster, linkage

    marks = pd.read_csv(shared_data / "tables" / "lidc_annotations.csv.gz")
    mm = marks[["cx_px", "cy_px"]].mul(marks.pixel_spacing, axis=0)
    places = np.column_stack([mm, marks.cz_mm])
    number, taken = np.zeros(len(marks), dtype=int), 0
    for rows in marks.groupby("series_uid").indices.values():
        group = np.ones(1, dtype=int)
        if len(rows) > 1:
            group = fcluster(linkage(places[rows], "average"), 8.0, "distance")
        number[rows] = group + taken
        taken += group.max()
    found = marks.groupby(number)
    table = found[["max_diam_mm", *RATINGS]].mean().rename(columns={"max_diam_mm": "diameter"})
    table["readers"] = found.size().clip(upper=4)
    shares = table.readers.value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(shares, READER_SHARES, atol=0.001)
    for k, row in enumerate(DIAMETERS, start=1):
        found = table[table.readers == k].diameter.quantile(QUANTILES)
        np.testing.assert_allclose(found, row, atol=0.06)
    rated = table[(table.diameter >= 8) & (table.diameter < 12)]
    for name, rows in RATINGS.items():
        found = [float((rated[name].round().clip(1, 5) == k).mean()) for k in range(1, 6)]
        np.testing.assert_allclose(found, rows[2], atol=0.025)


def sensitivity_of_a_threshold(scans, false_a_scan):
    """Otsu within the true lungs, components by roundness: what a threshold can do at best."""
    from skimage.filters import threshold_otsu

    marks, missed = [], 0
    for chest, image in scans:
        inside = ndimage.binary_erosion(chest.lungs, iterations=1)
        dense = inside & (image > threshold_otsu(image[inside]))
        parts, count = ndimage.label(dense)
        boxes = ndimage.find_objects(parts)
        found = set()
        for number in range(1, count + 1):
            box = boxes[number - 1]
            part = parts[box] == number
            size = int(part.sum())
            if size < 4:
                continue
            round_ = size / max(part.shape) ** 3
            hit = np.unique(chest.labels[box][part])
            hit = {int(h) for h in hit if h} - found
            found |= hit
            marks.append((round_ * np.sqrt(size), len(hit)))
        missed += len(chest.nodules) - len(found)
    marks.sort(reverse=True)
    hits = np.cumsum([h for _, h in marks])
    wrong = np.cumsum([h == 0 for _, h in marks])
    total = hits[-1] + missed
    return hits[np.searchsorted(wrong, false_a_scan * len(scans), side="right") - 1] / total


def test_no_threshold_finds_the_nodules(scans):
    # 0.58 at 1 and 0.64 at 4 on other seeds, though it was given the true lungs.
    assert sensitivity_of_a_threshold(scans, 1) < 0.7
    assert sensitivity_of_a_threshold(scans, 4) < 0.8
