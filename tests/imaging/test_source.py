"""Preparing, measuring and judging read the volume the recipe is for, as it is to be read."""

import numpy as np
import pytest
from pydicom import dcmread

from tasks.archive.orders import OrderCase, WorkOrder
from tasks.archive.sources import FileRef
from tasks.errors import BadCase
from tasks.imaging.recipe import fit
from tasks.imaging.source import entry_of
from tasks.imaging.steps import parse_steps
from tasks.phantom.ct import write_ct_series
from tasks.store.fill import fingerprint_order, prepare_case

KEPT = parse_steps([{"step": "clip", "low": -2000, "high": 9000}])
STRAIGHT = parse_steps([{"step": "straighten"}, {"step": "resample", "spacing": "median"}])


def case_of(folder):
    files = [FileRef(str(p), None, "", p.stat().st_size) for p in sorted(folder.glob("*.dcm"))]
    return OrderCase("c" * 32, "dicom", tuple(files), None)


@pytest.fixture
def echoes(tmp_path):
    """A case of two echoes, the second twice as bright, and the first's voxels."""
    truth = write_ct_series(tmp_path, shape=(4, 12, 10), modality="MR", volumes=2)
    seen = set()
    for path in sorted(tmp_path.glob("*.dcm")):
        dataset = dcmread(path)
        second = tuple(dataset.ImagePositionPatient) in seen
        seen.add(tuple(dataset.ImagePositionPatient))
        dataset.EchoTime, dataset.RescaleSlope = (60, "2") if second else (15, "1")
        dataset.save_as(path)
    return case_of(tmp_path), truth.array


@pytest.mark.parametrize(("te", "times"), [("15", 1), ("60", 2)])
def test_a_part_holds_the_volume_that_is_chosen(echoes, te, times):
    case, first = echoes
    prepared = prepare_case(case, fit(KEPT, None, volume={"te": [te]}))
    np.testing.assert_array_equal(prepared.array, first * times)


@pytest.mark.parametrize(
    ("volume", "reason"), [(None, "several_volumes"), ({"te": ["30"]}, "no_such_volume")]
)
def test_a_case_without_one_such_volume_is_a_row_of_quarantine(echoes, volume, reason):
    case, _ = echoes
    with pytest.raises(BadCase, match="te=15, te=60") as caught:
        prepare_case(case, fit(KEPT, None, volume=volume))
    assert caught.value.reason == reason


def test_a_cine_is_no_single_image(tmp_path):
    write_ct_series(tmp_path, shape=(1, 12, 10))
    (path,) = tmp_path.glob("*.dcm")
    dataset = dcmread(path)
    dataset.Modality, dataset.NumberOfFrames = "XA", "5"
    dataset.PixelData = np.arange(5 * 120).astype("<u2").tobytes()
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.save_as(path)
    case = case_of(tmp_path)
    for step in ({"step": "resize", "shape": [1, 6, 6]}, {"step": "crop", "shape": [1, 6, 6]}):
        with pytest.raises(BadCase, match="a cine of 5 frames") as caught:
            prepare_case(case, fit(parse_steps([step]), None))
        assert caught.value.reason == "several_images"
    # Whose first axis stays may have time in it.
    assert prepare_case(case, fit(KEPT, None)).array.shape == (5, 12, 10)


def test_what_is_fitted_is_measured_on_the_volume_that_is_chosen(echoes):
    case, first = echoes
    order = WorkOrder("fingerprint", "", (case,))
    assert fingerprint_order(order, entry_of(KEPT, None)) == []
    found = [fingerprint_order(order, entry_of(KEPT, {"te": [te]}))[0] for te in ("15", "60")]
    assert found[0] != found[1]
    assert found[0].shape == first.shape


def test_what_is_fitted_is_measured_upright(tmp_path):
    write_ct_series(tmp_path, spacing=(2.0, 0.8, 0.7), tilt_deg=20)
    order = WorkOrder("fingerprint", "", (case_of(tmp_path),))
    assert fingerprint_order(order, entry_of(KEPT, None)) == []
    (found,) = fingerprint_order(order, entry_of(STRAIGHT, None))
    # The leaning step is 2.13 mm long; upright, slices are 2 mm apart.
    assert found.spacing == pytest.approx((2.0, 0.8, 0.7))


def test_a_spacing_is_learnt_of_the_axes_it_is_used_on(tmp_path):
    """A turn that stands after another step changes which axis a median is of, all the same."""
    write_ct_series(tmp_path, spacing=(2.0, 0.8, 0.7))
    order = WorkOrder("fingerprint", "", (case_of(tmp_path),))
    turned = {"step": "reorient", "orientation": "PSL"}
    median = {"step": "resample", "spacing": "median"}
    for steps, spacing in (([turned, median], (0.8, 2.0, 0.7)), ([median, turned], (2, 0.8, 0.7))):
        (found,) = fingerprint_order(order, entry_of((*KEPT, *parse_steps(steps)), None))
        assert found.spacing == pytest.approx(spacing)


def test_the_entry_of_a_recipe_is_what_needs_no_fit(echoes):
    assert entry_of(KEPT, None).steps == ()
    assert [step.name for step in entry_of(STRAIGHT, {"te": ["15"]}).steps] == ["straighten"]
    assert entry_of(STRAIGHT, {"te": ["15"]}).volume == {"te": ["15"]}
