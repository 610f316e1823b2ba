"""A leaning or uneven series enters a recipe upright, and answers go back to its own slices."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tasks.archive.nifti import write_nifti
from tasks.archive.orders import OrderCase
from tasks.archive.sources import FileRef
from tasks.errors import BadCase
from tasks.imaging.recipe import FittedRecipe, Image, apply, fit, invert, replay
from tasks.imaging.source import read_source, source_image
from tasks.imaging.steps import parse_steps
from tasks.imaging.straighten import STEPS
from tasks.phantom.ct import write_ct_series
from tasks.store.fill import prepare_case, prepare_label
from tests.imaging.pictures import leaning, picture

STRAIGHT = fit(parse_steps([{"step": "straighten"}]), None)
PLAIN = fit((), None)

SHAPE = (12, 40, 36)
SPACING = (2.0, 0.8, 0.7)
UNEVEN = np.array([0, 1, 2, 3, 4.4, 5.4, 6.8, 7.8, 9.2, 10.2, 11.2, 12.2])
"""Heights in steps: no gap is a multiple of the usual step."""

BLOB_MM = 3.0
"""Width of the blob: several voxels, so that its middle hardly feels the grid."""


def blob(positions, columns=(0.8, 0.7)):
    """Slices (z, y, x) of a round blob in the patient, and its middle, LPS mm."""
    middle = positions.mean(axis=0) + np.array([17 * columns[1], 21 * columns[0], 0])
    y, x = np.indices(SHAPE[1:])
    at = positions[:, None, None] + np.stack([x * columns[1], y * columns[0], 0 * x], axis=-1)
    return 1000 * np.exp(-((at - middle) ** 2).sum(axis=-1) / (2 * BLOB_MM**2)), middle


def write(folder: Path, *, tilt=0.0, heights=None):
    """Write a blob in slices that lean or stand unevenly: files, values, middle (LPS mm)."""
    write_ct_series(folder, shape=SHAPE, spacing=SPACING, tilt_deg=tilt)
    datasets = sorted(
        (dcmread(path) for path in folder.glob("*.dcm")), key=lambda d: d.ImagePositionPatient[2]
    )
    positions = np.array([d.ImagePositionPatient for d in datasets], dtype=float)
    if heights is not None:
        positions[:, 2] = positions[0, 2] + SPACING[0] * heights
    values, middle = blob(positions)
    for dataset, position, plane in zip(datasets, positions, values, strict=True):
        dataset.ImagePositionPatient = [f"{v:.10g}"[:16] for v in position]
        dataset.PixelData = np.rint(plane + 1024).astype("<u2").tobytes()
        dataset.save_as(dataset.filename)
    files = [FileRef(str(p), None, "", p.stat().st_size) for p in sorted(folder.glob("*.dcm"))]
    return files, values, middle


def centre(array, affine):
    """Return the middle of what is bright, LPS mm."""
    weight = np.maximum(array - array.min() - 60, 0).astype(float)
    index = np.indices(array.shape).reshape(3, -1)
    mean = (index * weight.ravel()).sum(axis=1) / weight.sum()
    return (affine @ [*mean, 1])[:3]


CROOKED = [{"tilt": 15.0}, {"tilt": -15.0}, {"heights": UNEVEN}, {"tilt": 8.0, "heights": UNEVEN}]


@pytest.mark.parametrize("how", CROOKED)
def test_a_blob_stays_where_it_is_in_the_patient(tmp_path, how):
    files, _, middle = write(tmp_path, **how)
    volume = read_source(STRAIGHT, OrderCase("c", "dicom", tuple(files), None))
    out, _ = apply(STRAIGHT, source_image(volume))
    axes = out.affine[:3, :3] / np.linalg.norm(out.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    filled = np.maximum(out.array, 0)  # where no slice reaches there is air, -1024
    np.testing.assert_allclose(centre(filled, out.affine), middle, atol=0.25)


@pytest.mark.parametrize("how", CROOKED)
def test_predictions_come_back_to_the_slices_as_they_stand(tmp_path, how):
    files, values, _ = write(tmp_path, **how)
    volume = read_source(STRAIGHT, OrderCase("c", "dicom", tuple(files), None))
    out, traces = apply(STRAIGHT, source_image(volume))
    traces = json.loads(json.dumps(traces))
    back = invert(STRAIGHT, traces, out.array, kind="probability")
    assert back.shape == volume.array.shape
    inside = values > 50
    apart = np.abs(back - volume.array)[inside]
    # Interpolation there and back smooths the blob; a slip of one pixel is 160 at its steepest.
    assert apart.max() < 120
    assert apart.mean() < 20


@pytest.mark.parametrize("tilt", [15.0, -15.0])
def test_labels_of_a_leaning_stack_come_back_as_they_were(tmp_path, tilt):
    files, values, _ = write(tmp_path, tilt=tilt)
    volume = read_source(STRAIGHT, OrderCase("c", "dicom", tuple(files), None))
    out, traces = apply(STRAIGHT, source_image(volume))
    label = ((values > 300) * 2 + (values > 700)).astype(np.uint8)
    forth = replay(STRAIGHT, traces, Image(label, volume.affine))
    assert forth.array.shape == out.array.shape
    np.testing.assert_allclose(forth.affine, out.affine, atol=1e-12)
    np.testing.assert_array_equal(invert(STRAIGHT, traces, forth.array, kind="label"), label)
    # On the upright grid the label lies on what it was drawn on.
    assert out.array[forth.array >= 2].min() > out.array[forth.array == 0].max() - 300


def test_labels_of_an_uneven_stack_are_those_of_the_nearest_slice(tmp_path):
    files, *_ = write(tmp_path, heights=UNEVEN)
    volume = read_source(STRAIGHT, OrderCase("c", "dicom", tuple(files), None))
    _, traces = apply(STRAIGHT, source_image(volume))
    numbers = np.broadcast_to(np.arange(1, 13, dtype=np.uint8)[:, None, None], SHAPE)
    forth = replay(STRAIGHT, traces, Image(numbers, volume.affine)).array
    expected = [1 + np.abs(UNEVEN - level).argmin() for level in range(len(forth))]
    np.testing.assert_array_equal(forth[:, 0, 0], expected)


def test_what_is_upright_and_even_passes_as_it_is(tmp_path):
    truth = write_ct_series(tmp_path)
    files = [FileRef(str(p), None, "", p.stat().st_size) for p in tmp_path.glob("*.dcm")]
    volume = read_source(STRAIGHT, OrderCase("c", "dicom", tuple(files), None))
    image, trace = STEPS["straighten"].apply(source_image(volume), None)
    assert image.array is volume.array
    assert trace["at"] is None
    np.testing.assert_allclose(image.affine, truth.affine, atol=1e-5)
    out, traces = apply(STRAIGHT, picture())
    np.testing.assert_array_equal(out.array, picture().array)
    back = invert(STRAIGHT, traces, out.array, kind="label")
    np.testing.assert_array_equal(back, picture().array)


def test_a_sheared_affine_is_enough_where_no_positions_are_known():
    out, traces = apply(STRAIGHT, leaning())
    assert out.array.shape[0] == 6
    assert out.array.shape[1] > 24
    assert np.linalg.norm(out.affine[:3, 0]) == pytest.approx(3.0)
    back = invert(STRAIGHT, traces, out.array, kind="probability")
    assert back.shape == leaning().array.shape


@pytest.mark.parametrize("how", CROOKED)
def test_without_the_step_such_a_case_is_refused(tmp_path, how):
    files, *_ = write(tmp_path, **how)
    with pytest.raises(BadCase) as caught:
        prepare_case(OrderCase("c", "dicom", tuple(files), None), PLAIN)
    assert caught.value.reason in ("gantry_tilt", "uneven_spacing")


def test_a_case_and_its_mask_are_prepared_on_one_upright_grid(tmp_path):
    files, values, _ = write(tmp_path / "series", tilt=15.0)
    recipe = fit(
        parse_steps([{"step": "straighten"}, {"step": "resample", "spacing": [2, 1, 1]}]), None
    )
    volume = read_source(recipe, OrderCase("c", "dicom", tuple(files), None))
    mask = tmp_path / "mask.nii.gz"
    write_nifti(mask, (values > 500).astype(np.uint8), volume.affine)
    case = OrderCase("c", "dicom", tuple(files), FileRef(str(mask), None, "", mask.stat().st_size))
    image = prepare_case(case, recipe)
    label = prepare_label(case, recipe, json.loads(json.dumps(image.traces)))
    assert label.array.shape == image.array.shape
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-9)
    assert image.array[label.array == 1].mean() > image.array[label.array == 0].max() / 2
    assert image.certificate["reason"] == "gantry_tilt"


def test_the_mask_of_a_leaning_stack_is_written_where_its_slices_lie(tmp_path):
    import nibabel

    files, *_ = write(tmp_path / "series", tilt=15.0)
    volume = read_source(STRAIGHT, OrderCase("c", "dicom", tuple(files), None))
    write_nifti(tmp_path / "mask.nii", np.ones(SHAPE, np.uint8), volume.affine)
    image = nibabel.load(tmp_path / "mask.nii")
    lps = np.diag([-1, -1, 1, 1]) @ image.affine
    np.testing.assert_allclose(lps[:3, [2, 1, 0, 3]], volume.affine[:3], atol=1e-4)
    # A quaternion cannot lean: whoever trusts the qform must not find one.
    assert int(image.header["qform_code"]) == 0
    assert int(image.header["sform_code"]) == 1


def test_only_the_first_step_may_straighten():
    steps = parse_steps([{"step": "normalise"}, {"step": "straighten"}])
    with pytest.raises(ValueError, match="'straighten' must be the first"):
        fit(steps, None)


def test_a_recipe_for_another_volume_is_another_recipe_and_none_is_as_before():
    from tasks.store.schema import recipe_id

    steps = parse_steps([{"step": "normalise"}])
    plain, chosen = fit(steps, None), fit(steps, None, volume={"te": ["30"]})
    assert "volume" not in plain.to_dict()
    assert recipe_id(plain) != recipe_id(chosen)
    assert FittedRecipe.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen
