"""The series of a case come onto the grid of its reference, and follow it through the recipe."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.archive.nifti import write_nifti
from tasks.archive.orders import OrderCase, OrderSeries
from tasks.archive.sources import FileRef
from tasks.cohort.channels import ChannelSet
from tasks.errors import BadCase
from tasks.imaging import channels
from tasks.imaging.channels import prepare, reference_plane
from tasks.imaging.recipe import fit
from tasks.imaging.source import source_image
from tasks.imaging.steps import parse_steps
from tasks.phantom.ct import write_ct_series
from tests.imaging.heads import T1, T2, centred, scan, turned

AFFINE = np.array([[0, 0, 2.0, -10], [0, 2.0, 0, -12], [3.0, 0, 0, -9], [0, 0, 0, 1]])
SHAPE = (8, 14, 12)
NORMALISE = {"step": "normalise", "method": "zscore"}


def blob(scale=1.0, affine=AFFINE, shape=SHAPE):
    """Return a smooth picture of the place itself, so that any grid shows the same thing."""
    index = np.indices(shape).reshape(3, -1)
    place = (affine @ np.vstack([index, np.ones(index.shape[1])]))[:3]
    values = np.exp(-((place / 9) ** 2).sum(0)) * 100 * scale
    return values.reshape(shape).astype(np.float32)


def case_of(folder, **images):
    series = []
    for name, (array, affine) in images.items():
        path = folder / f"{name}.nii.gz"
        write_nifti(path, array, affine)
        ref = FileRef(str(path), None, "", path.stat().st_size)
        series.append(OrderSeries(name, (ref,), "MR"))
    return OrderCase("c" * 32, "nifti", series[0].files, None, "MR", tuple(series))


def recipe_of(*steps, align="auto", names=("a", "b", "c"), required=("a",)):
    chosen = ChannelSet(names, required, "a", align)
    return fit(parse_steps(list(steps)), None, channels=chosen.to_dict())


def test_channels_stand_in_their_order_each_normalised_by_itself_and_a_missing_one_is_zeros(
    tmp_path,
):
    case = case_of(tmp_path, a=(blob(), AFFINE), c=(blob(7.0) + 50, AFFINE))
    one = prepare(recipe_of(NORMALISE), case)
    assert (one.image.array.shape, one.present) == ((3, *SHAPE), (True, False, True))
    assert not one.image.array[1].any()
    # The same picture in other units is the same after z-scores.
    np.testing.assert_allclose(one.image.array[0], one.image.array[2], atol=1e-4)
    np.testing.assert_allclose(one.image.array[0].std(), 1, atol=1e-4)
    assert one.certificate["channels"] == {"c": {"by": "grid"}}
    assert reference_plane(one.image.array, recipe_of(NORMALISE)) is not None


def test_the_reference_alone_goes_through_the_recipe_as_a_case_of_one_series_does(tmp_path):
    steps = ({"step": "crop", "shape": "foreground", "threshold": 5.0}, NORMALISE)
    case = case_of(tmp_path, a=(blob(), AFFINE), b=(blob(3.0), AFFINE))
    several = prepare(recipe_of(*steps), case)
    alone = prepare(fit(parse_steps(list(steps)), None), replace(case, series=()))
    assert alone.present == ()
    np.testing.assert_array_equal(several.image.array[0], alone.image.array)
    np.testing.assert_array_equal(several.image.affine, alone.image.affine)
    assert several.traces == alone.traces


def test_all_channels_are_cut_to_the_box_of_the_reference(tmp_path):
    wide = blob(9.0) + 20  # all of it above the threshold
    case = case_of(tmp_path, a=(blob(), AFFINE), b=(wide, AFFINE))
    recipe = recipe_of({"step": "crop", "shape": "foreground", "threshold": 20.0})
    one = prepare(recipe, case)
    (trace,) = one.traces
    box = tuple(slice(s, s + n) for s, n in zip(trace["start"], trace["shape"], strict=True))
    assert trace["shape"] != trace["source_shape"]
    np.testing.assert_array_equal(one.image.array[1], wide[box])


def test_another_grid_is_resampled_where_the_headers_are_to_be_believed(tmp_path):
    fine = np.array([[0, 0, 1.0, -14], [0, 1.0, 0, -16], [1.5, 0, 0, -12], [0, 0, 0, 1]])
    other = blob(2.0, fine, (17, 34, 30))
    case = case_of(tmp_path, a=(blob(), AFFINE), b=(other, fine))
    one = prepare(recipe_of({"step": "clip", "low": -1, "high": 1000}, align="headers"), case)
    told = one.aligned["b"]
    assert (told["by"], told["overlap"] > 0.8) == ("headers", True)
    inside = np.s_[1:-1, 1:-1, 1:-1]
    away = np.abs(one.image.array[1] - 2 * blob())[inside]
    assert away.max() < 0.03 * 200


def test_series_that_the_headers_put_beside_each_other_are_refused(tmp_path):
    far = AFFINE.copy()
    far[:3, 3] += 500
    case = case_of(tmp_path, a=(blob(), AFFINE), b=(blob(), far))
    with pytest.raises(BadCase, match="channel b: nothing of it lies on the grid") as refused:
        prepare(recipe_of(NORMALISE, align="headers"), case)
    assert refused.value.reason == "no_overlap"


def test_series_that_the_headers_put_half_beside_each_other_are_refused(tmp_path):
    aside = AFFINE.copy()
    aside[0, 3] += 0.7 * 2.0 * SHAPE[2]
    case = case_of(tmp_path, a=(blob(), AFFINE), b=(blob(), aside))
    with pytest.raises(BadCase, match="of the smaller image lies within the other, 50% is the le"):
        prepare(recipe_of(NORMALISE, align="headers"), case)
    # A thin slab inside the reference shares all of its places with it.
    slab = AFFINE.copy()
    slab[:3, 3] += 3 * AFFINE[:3, 0]
    case = case_of(tmp_path, a=(blob(), AFFINE), b=(blob(2.0)[3:5], slab))
    one = prepare(recipe_of(NORMALISE, align="headers"), case)
    assert one.aligned["b"]["overlap"] == 1.0


def dicom_case(folder, second_seed):
    """Two series on grids of their own; of one seed they share their frame of reference."""
    grids = {
        "a": ((8, 32, 40), (2.5, 0.8, 0.7), 1),
        "b": ((6, 20, 24), (3.5, 1.3, 1.2), second_seed),
    }
    series = []
    for name, (shape, spacing, seed) in grids.items():
        write_ct_series(folder / name, shape=shape, spacing=spacing, seed=seed, modality="MR")
        paths = sorted((folder / name).glob("*.dcm"))
        files = tuple(FileRef(str(path), None, "", path.stat().st_size) for path in paths)
        series.append(OrderSeries(name, files, "MR"))
    return OrderCase("c" * 32, "dicom", series[0].files, None, "MR", tuple(series))


def test_a_frame_of_reference_that_two_series_share_is_believed_and_another_is_not(tmp_path):
    one = prepare(recipe_of(NORMALISE), dicom_case(tmp_path / "shared", 1))
    told = one.aligned["b"]
    assert (told["by"], told["overlap"] > 0.8) == ("headers", True)
    assert one.image.array.shape == (3, 8, 32, 40)
    assert "frame" not in one.volume.facts
    with pytest.raises(BadCase, match="channel b: ") as refused:
        prepare(recipe_of(NORMALISE), dicom_case(tmp_path / "other", 2))
    assert refused.value.reason == "registration_failed"


@pytest.mark.slow
def test_a_head_that_moved_between_two_series_is_registered_and_the_way_is_told(tmp_path):
    shape = (26, 60, 52)
    still = scan(shape, centred(shape, (6.0, 2.8, 2.8)), greys=T1)
    moved = scan(
        (40, 64, 60), centred((40, 64, 60), (4.0, 2.6, 2.6)), turned((0, 3, 4), (4, -3, 2)), T2,
        seed=1,
    )  # fmt: skip
    case = case_of(tmp_path, a=(still.array, still.affine), b=(moved.array, moved.affine))
    one = prepare(recipe_of(NORMALISE), case)
    told = one.aligned["b"]
    assert told["by"] == "rigid"
    assert 3 < told["shift_mm"] < 8
    assert told["quality"] > 0.1
    assert one.image.array[1].shape == still.array.shape


def test_a_case_without_a_required_channel_has_a_reason(tmp_path):
    case = case_of(tmp_path, a=(blob(), AFFINE))
    with pytest.raises(BadCase, match="no series for b") as refused:
        prepare(recipe_of(NORMALISE, required=("a", "b")), case)
    assert refused.value.reason == "missing_channel"


def test_one_grid_is_told_from_another():
    one = source_image_of(AFFINE)
    nearly, other = AFFINE.copy(), AFFINE.copy()
    nearly[0, 3] += 1e-6
    other[0, 3] += 0.1
    assert channels.same_grid(one, source_image_of(nearly))
    assert not channels.same_grid(one, source_image_of(other))


def source_image_of(affine):
    from tasks.archive.volume import Volume

    return source_image(Volume(np.zeros(SHAPE), affine, {}))
