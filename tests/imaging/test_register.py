import numpy as np
import pytest
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

from tasks.errors import BadCase
from tasks.imaging.register import LEAST_QUALITY, judge, motion, register
from tasks.imaging.regrid import resample_onto
from tasks.imaging.step import Image
from tests.imaging.heads import T1, T2, centred, largest_error_mm, scan, turned

HALF_PIXEL = 0.5
HALF_DEGREE = 0.5

ONE_DEGREE = 1.0
"""Of a head in voxels of 2.6 and 5 mm: less than half a voxel at its rim."""

SLICE_CENTRE = (111.177, 131.572)
"""Of rotation in the ITK Software Guide, ImageRegistration6, where the slices come from."""

ROTATED_AND_SHIFTED = (12.4566, 16.0729)
"""What that centre moves by there, found by ITK; the file's name says 13 and 17 of another one."""

COARSE = (32, 64, 56), (5.0, 2.6, 2.6)
FINE = (52, 72, 64), (3.0, 2.4, 2.4)


def brain_slice(shared_data, name):
    array = np.asarray(Picture.open(shared_data / "registration" / f"Brain{name}.png"))[None]
    return Image(array, np.eye(4)[[2, 1, 0, 3]])


SLICE = (1, 90, 80), (1.0, 1.8, 1.8)

NODDED = turned((4, -6, 3), (5, -8, 6))


def slices(move=None, greys=T2):
    grid = centred(*SLICE)
    return scan(SLICE[0], grid), scan(SLICE[0], grid, move, greys, seed=1)


@pytest.fixture(scope="module")
def nodded():
    """Two contrasts of a head that nodded in between, and how they were found to lie."""
    fixed, moving = pair(NODDED)
    return fixed, moving, register(fixed, moving)


def pair(move, greys=T2):
    fixed = scan(COARSE[0], centred(*COARSE))
    return fixed, scan(FINE[0], centred(*FINE), move, greys, seed=1)


@pytest.mark.parametrize("contrast", ["ProtonDensitySliceBorder20", "T1SliceBorder20"])
def test_known_shifts_of_real_slices_are_found_whatever_the_contrast(shared_data, contrast):
    fixed = brain_slice(shared_data, contrast)
    found = register(fixed, brain_slice(shared_data, "ProtonDensitySliceShifted13x17y"))
    np.testing.assert_allclose(found.matrix[:3, 3], (13, 17, 0), rtol=0, atol=HALF_PIXEL)
    assert found.rotation_deg < HALF_DEGREE
    assert found.metric_after > 2 * found.metric_before
    assert found.shift_mm == pytest.approx(np.hypot(13, 17), abs=HALF_PIXEL)


@pytest.mark.parametrize("contrast", ["ProtonDensitySliceBorder20", "T1SliceBorder20"])
def test_known_turns_of_real_slices_are_found_whatever_the_contrast(shared_data, contrast):
    fixed = brain_slice(shared_data, contrast)
    both = register(fixed, brain_slice(shared_data, "ProtonDensitySliceR10X13Y17"))
    centre = (*SLICE_CENTRE, 0, 1)
    moved = (both.matrix @ centre)[:2] - SLICE_CENTRE
    np.testing.assert_allclose(moved, ROTATED_AND_SHIFTED, rtol=0, atol=HALF_PIXEL)
    turn = register(fixed, brain_slice(shared_data, "ProtonDensitySliceRotated10"))
    for found in (turn, both):
        angle = np.degrees(np.arctan2(found.matrix[1, 0], found.matrix[0, 0]))
        assert angle == pytest.approx(10, abs=HALF_DEGREE)
        assert found.rotation_deg == pytest.approx(10, abs=HALF_DEGREE)


def test_a_slice_that_was_stretched_is_found_by_an_affine_match(shared_data):
    fixed = brain_slice(shared_data, "ProtonDensitySliceBorder20")
    found = register(fixed, brain_slice(shared_data, "ProtonDensitySliceR10X13Y17S12"), "affine")
    scale = np.linalg.svd(found.matrix[:2, :2], compute_uv=False)
    np.testing.assert_allclose(scale, 1 / 1.2, rtol=0, atol=0.02)
    assert found.rotation_deg == pytest.approx(10, abs=HALF_DEGREE)


def test_slices_of_a_tilted_plane_are_registered_within_it():
    truth = turned((0, 0, 6), (4, -5, 0))
    tilt = turned((25, 15, 0), (10, 20, 30))
    fixed, moving = (Image(one.array, tilt @ one.affine) for one in slices(truth))
    found = register(fixed, moving)
    assert largest_error_mm(found.matrix @ tilt, tilt @ truth) < HALF_PIXEL * 1.8


def test_a_known_motion_of_a_head_is_found_within_half_a_voxel(nodded):
    _, _, found = nodded
    assert largest_error_mm(found.matrix, NODDED) < HALF_PIXEL * 2.6
    np.testing.assert_allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert found.metric_after > found.metric_before
    assert 2 * LEAST_QUALITY < found.quality <= 1
    assert found.rotation_deg == pytest.approx(motion(nodded[0], NODDED)[1], abs=ONE_DEGREE)


def test_an_affine_match_finds_a_stretch():
    truth = turned((2, 3, -4), (3, 4, -2), (1.06, 0.95, 1.03))
    found = register(*pair(truth), "affine")
    assert largest_error_mm(found.matrix, truth) < HALF_PIXEL * 2.6


def test_neither_an_inverted_contrast_nor_turned_axes_are_a_hindrance():
    fixed, moving = pair(NODDED, 200 - T1)
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = moving.array.shape[1] - 1
    axes = np.eye(4)[[2, 1, 0, 3]]
    other = Image(moving.array[:, ::-1].transpose(2, 1, 0), moving.affine @ flip @ axes)
    assert largest_error_mm(register(fixed, other).matrix, NODDED) < HALF_PIXEL * 2.6


def test_the_same_images_give_the_same_bytes(nodded):
    fixed, moving, first = nodded
    second = register(fixed, moving)
    assert first.matrix.tobytes() == second.matrix.tobytes()
    assert (first.quality, first.iterations) == (second.quality, second.iterations)


def test_noise_is_refused():
    fixed, _ = slices()
    white = np.random.default_rng(3).normal(size=SLICE[0]).astype(np.float32)
    for array in (white, gaussian_filter(white, (0, 3, 3))):
        with pytest.raises(BadCase, match=r"registration_failed: rigid match: .*quality 0\.0"):
            register(fixed, Image(array, fixed.affine))


@pytest.mark.parametrize(
    ("away", "kind", "said"),
    [
        (turned((0, 0, 0), (75, 0, 0)), "rigid", "shift 75 mm, most 60"),
        (turned((0, 0, 38), (0, 0, 0)), "rigid", r"rotation 3[78] degrees, most 30"),
        (np.diag([1.4, 1.4, 1.0, 1.0]), "affine", r"scale 1\.[34]\d, most 1\.25"),
    ],
)
def test_a_motion_that_no_patient_makes_is_refused(away, kind, said):
    fixed, moving = slices()
    with pytest.raises(BadCase, match=said):
        register(fixed, Image(moving.array, away @ moving.affine), kind)


def test_what_cannot_be_registered_is_refused_before_the_search():
    fixed, moving = pair(np.eye(4))
    with pytest.raises(BadCase, match="constant_image"):
        register(fixed, Image(np.zeros(FINE[0], np.float32), moving.affine))
    with pytest.raises(BadCase, match="32 and 3 slices: both need 5"):
        register(fixed, Image(moving.array[:3], moving.affine))
    single, other = (Image(fixed.array[10:11], centred((1, 64, 56), (1, 2, 2))) for _ in range(2))
    leaning = Image(other.array, turned((2, 0, 0), (0, 0, 0)) @ other.affine)
    with pytest.raises(BadCase, match="do not lie in one plane"):
        register(single, leaning)
    with pytest.raises(ValueError, match="'rigid' or 'affine'"):
        register(fixed, moving, "elastic")


def test_the_quality_is_one_for_the_image_itself_and_none_for_noise():
    fixed, _ = pair(np.eye(4))
    itself, overlap = judge(fixed, fixed, np.eye(4))
    assert (itself.normalised, overlap) == (pytest.approx(1), 1)
    noise = np.random.default_rng(9).normal(size=fixed.array.shape).astype(np.float32)
    assert judge(fixed, Image(noise, fixed.affine), np.eye(4))[0].normalised < LEAST_QUALITY / 4
    half = turned((0, 0, 0), (56 * 2.6 / 2, 0, 0))
    assert judge(fixed, fixed, half)[1] == pytest.approx(0.5, abs=0.02)


def test_motion_is_that_of_the_centre():
    grid = Image(np.zeros((3, 5, 7)), centred((3, 5, 7), (2, 1, 1)))
    assert motion(grid, turned((0, 20, 0), (3, 0, 4))) == (pytest.approx(5), pytest.approx(20))


def test_the_inverse_brings_a_mask_back(nodded):
    fixed, moving, found = nodded
    on_fixed = resample_onto(moving, found.matrix, fixed.array.shape, fixed.affine)
    mask = Image((on_fixed.array > 150).astype(np.uint8), fixed.affine)
    back = resample_onto(
        mask, np.linalg.inv(found.matrix), moving.array.shape, moving.affine, linear=False, fill=0
    )
    truth = moving.array > 150
    overlap = 2 * np.sum(truth & (back.array > 0)) / (truth.sum() + back.array.sum())
    assert overlap > 0.75
