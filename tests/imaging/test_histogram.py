import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.histogram import (
    HISTOGRAM_STANDARD,
    LANDMARKS,
    SCALE,
    HistogramParameters,
    map_landmarks,
)
from tasks.imaging.step import Image


def head(scanner: float, offset: float, seed: int) -> Image:
    """Return three tissues as one scanner shows them: the same contrast, another scale."""
    rng = np.random.default_rng(seed)
    tissue = rng.choice([0, 300, 420, 600], (6, 30, 30), p=[0.4, 0.2, 0.2, 0.2])
    array = (tissue + rng.normal(0, 15, tissue.shape)) * scanner + offset
    return Image(array.astype(np.float32), np.eye(4))


def learnt(images):
    params = HistogramParameters()
    return HISTOGRAM_STANDARD.learn(
        params, [HISTOGRAM_STANDARD.measure(one, params) for one in images]
    )


def test_a_case_gives_eleven_numbers_and_no_voxel():
    numbers = HISTOGRAM_STANDARD.measure(head(1, 0, 1), HistogramParameters())
    assert numbers.keys() == {"landmarks"}
    assert len(numbers["landmarks"]) == len(LANDMARKS) == 11
    assert all(type(value) is float for value in numbers["landmarks"])


def test_the_standard_is_the_mean_of_the_cases_on_one_range():
    images = [head(1, 0, 1), head(3, 50, 2)]
    expected = np.zeros(11)
    for image in images:
        values = image.array[image.array > image.array.mean()]
        own = np.percentile(values, LANDMARKS)
        expected += (own - own[0]) / (own[-1] - own[0]) * SCALE / 2
    np.testing.assert_allclose(learnt(images).standard, expected, rtol=1e-5, atol=1e-5)


def test_scanners_of_another_scale_agree_after_it():
    fitted = learnt([head(1, 0, seed) for seed in range(4)])
    assert not HISTOGRAM_STANDARD.needs_fit(fitted)
    out = []
    for scanner, offset in ((1, 0), (2.5, 100), (0.2, -30)):
        image = head(scanner, offset, 9)
        done, _ = HISTOGRAM_STANDARD.apply(image, fitted)
        out.append(done.array)
    np.testing.assert_allclose(out[1], out[0], rtol=0, atol=0.01)
    np.testing.assert_allclose(out[2], out[0], rtol=0, atol=0.01)
    source = head(1, 0, 9).array
    own = np.percentile(out[0][source > source.mean()], LANDMARKS)
    np.testing.assert_allclose(own, fitted.standard, rtol=0, atol=0.01)


def test_order_is_kept_and_the_ends_go_on_linearly():
    own = np.array([10.0, 20.0, 40.0])
    standard = np.array([0.0, 50.0, 100.0])
    array = np.array([[[0, 10, 15, 20, 30, 40, 60]]])
    out = map_landmarks(array, own, standard)
    np.testing.assert_allclose(out.ravel(), [-50, 0, 25, 50, 75, 100, 150])


def test_landmarks_of_one_intensity_become_one():
    own = np.array([10.0, 20.0, 20.0, 40.0])
    out = map_landmarks(np.array([[[20.0, 30.0]]]), own, np.array([0.0, 30.0, 50.0, 100.0]))
    np.testing.assert_allclose(out.ravel(), [40, 70])


def test_a_named_mask_is_the_foreground():
    image = head(1, 0, 1)
    mask = np.zeros(image.array.shape, np.uint8)
    mask[:3] = 1
    params = HistogramParameters(mask="brain")
    masked = Image(image.array, image.affine, {"brain": mask})
    expected = np.percentile(image.array[:3], LANDMARKS)
    assert HISTOGRAM_STANDARD.measure(masked, params)["landmarks"] == pytest.approx(expected)
    with pytest.raises(BadCase, match="no_such_mask"):
        HISTOGRAM_STANDARD.measure(image, params)


@pytest.mark.parametrize("array", [np.zeros((2, 5, 5)), np.pad(np.ones((1, 2, 2)), 1)])
def test_a_foreground_of_one_intensity_is_a_bad_case(array):
    with pytest.raises(BadCase, match="constant_image"):
        HISTOGRAM_STANDARD.measure(Image(array, np.eye(4)), HistogramParameters())
