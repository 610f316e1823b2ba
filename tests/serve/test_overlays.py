import numpy as np
import pytest
from PIL import Image

from tasks.serve.overlays import LONG_SIDE, most_of, overlay_png


def _read(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_an_image_without_overlay_stays_grey(tmp_path):
    image = np.linspace(-1000, 3000, 64 * 32).reshape(64, 32)
    got = _read(overlay_png(tmp_path / "a.png", image))
    assert got.shape == (LONG_SIDE, LONG_SIDE // 2, 3)
    assert np.ptp(got, axis=2).max() == 0
    assert got[0].mean() < 20 < 235 < got[-1].mean()


def test_a_mask_colours_its_inside_and_outlines_it(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    got = _read(overlay_png(tmp_path / "a.png", np.ones((64, 64)), mask=mask))
    coloured = np.ptp(got, axis=2) > 10
    assert coloured[LONG_SIDE // 2, LONG_SIDE // 2]
    assert not coloured[10, 10]
    assert coloured.mean() == pytest.approx(0.25, abs=0.02)


def test_heat_shows_where_it_is_high(tmp_path):
    heat = np.zeros((32, 32))
    heat[:, :16] = 1
    got = _read(overlay_png(tmp_path / "a.png", np.full((32, 32), 7), heat=heat))
    assert np.ptp(got[:, :100], axis=2).min() > 40
    assert np.ptp(got[:, -100:], axis=2).max() == 0


def test_unequal_spacing_is_shown_true_and_empty_images_do_not_fail(tmp_path):
    got = _read(overlay_png(tmp_path / "a.png", np.zeros((10, 20)), spacing=(4.0, 1.0)))
    assert got.shape[:2] == (LONG_SIDE, LONG_SIDE // 2)
    assert _read(overlay_png(tmp_path / "b.png", np.full((8, 8), np.nan))).max() == 0


def test_wrong_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"like the image, \(4, 4\)"):
        overlay_png(tmp_path / "a.png", np.zeros((4, 4)), mask=np.zeros((4, 5)))
    with pytest.raises(ValueError, match="must be"):
        overlay_png(tmp_path / "a.png", np.zeros((1, 4, 4)))


def test_the_slice_with_most_foreground_is_found():
    mask = np.zeros((5, 4, 4))
    assert most_of(mask) == 2
    mask[4, :2] = 1
    mask[1, 0, 0] = 1
    assert most_of(mask) == 4
