"""A classical detector finds drawn things of many places, tells balls from tubes, and is kept."""

import numpy as np
import pytest

from tasks.errors import ModelRefused
from tasks.learn.boxes import boxes_on, rows_of
from tasks.learn.candidate import PLACE_COLUMNS, TabularCandidate
from tasks.learn.dataset import ArrayCases
from tasks.learn.model import load_model
from tasks.learn.model_file import ModelSpec, save_model
from tasks.learn.place_detector import (
    PlaceModel,
    find_places,
    finder_said,
    fit_places,
    fold_findings,
)
from tasks.learn.places import PlaceFinder, finder_of
from tasks.learn.skops_file import save_skops
from tests.learn.drawn_boxes import AFFINE, PICTURE, labelled

SHAPE = (20, 36, 36)
FOREST = TabularCandidate(name="places", estimator="forest", params={"n_estimators": 40})


def drawn(shape, centre, radius, along=None):
    """Return how much of each voxel a ball fills, or a tube along an axis."""
    grid = np.indices(shape).astype(float)
    away = [((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True)]
    return (sum(a for axis, a in enumerate(away) if axis != along) <= 1).astype(np.float32)


def scans(n, sign=1, seed=0):
    """Return noise with a ball to be found and a tube beside it, which is nothing."""
    rng = np.random.default_rng(seed)
    images, affines, cases = {}, {}, []
    for i in range(n):
        low, high = sorted(rng.permutation([9, 27]) + rng.integers(-2, 3, 2))
        ball, tube = ((low, high), (high, low))[i % 2]
        centre = np.array([rng.integers(6, 14), ball, rng.integers(8, 28)])
        image = rng.normal(size=SHAPE).astype(np.float32) * 0.2
        image += sign * 2 * drawn(SHAPE, centre, (3, 3, 3))
        image += sign * 2 * drawn(SHAPE, (10, tube, 0), (3, 3, 3), along=2)
        key = f"{seed:032x}{i:032x}"
        images[key], affines[key] = image, AFFINE
        cases.append(labelled(key, np.array([[centre - 3.5, centre + 3.5]]), [0], AFFINE))
    return ArrayCases(images, affines=affines), cases


@pytest.mark.parametrize("sign", [1, -1])
def test_balls_are_told_from_tubes_in_cases_that_were_held_out(sign):
    source, cases = scans(6, sign)
    held = [case.case_id for case in cases[:2]]
    fitted, rows = fold_findings(FOREST, source, cases, held, 0, 1)
    assert fitted.finder.sign == sign
    for case, found in zip(cases[:2], rows, strict=True):
        truth = rows_of(case.boxes)[0]
        best, others = found[0], found[1:]
        # Class, score, centre and edges in the patient, though axes are turned and mirrored.
        np.testing.assert_allclose(best[2:5], truth[1:4], atol=2.1)
        assert best[0] == 0
        assert best[1] > 0.6
        away = np.linalg.norm(others[:, 2:5] - truth[1:4], axis=1) > 6
        assert (others[away, 1] < 0.4).all()


def test_a_place_is_a_box_of_the_size_that_answers_most_and_is_measured():
    finder = PlaceFinder(((4.0, 4.0, 4.0), (10.0, 10.0, 10.0)))
    image = drawn(SHAPE, (10, 18, 18), (5, 5, 5))
    box, measured = finder.find(image)
    np.testing.assert_allclose(box[0].mean(0), (10, 18, 18))
    np.testing.assert_allclose(np.diff(box[0], axis=0)[0], (10, 10, 10))
    said = dict(zip(PLACE_COLUMNS, measured[0], strict=True))
    assert said["ball_first"] > 0.8
    assert said["part_volume"] == pytest.approx(1, abs=0.1)
    assert said["part_leaves"] == 0
    _, measured = finder.find(drawn(SHAPE, (10, 18, 0), (5, 5, 5), along=2))
    tube = dict(zip(PLACE_COLUMNS, measured[0], strict=True))
    assert tube["ball_first"] < 0.2
    assert tube["part_leaves"] > 0


def test_pictures_have_places_without_an_extent_along_the_slices():
    image = drawn(PICTURE, (0, 30, 20), (1, 4, 4))
    finder = finder_of(iter([(image, np.array([[[-0.5, 25.5, 15.5], [0.5, 34.5, 24.5]]]))]))
    assert finder.sizes == ((1.0, 9.0, 9.0),)
    box, measured = finder.find(image)
    np.testing.assert_allclose(box[0].mean(0), (0, 30, 20))
    assert np.isfinite(measured).all()


def test_nothing_stands_out_where_nothing_is():
    box, measured = PlaceFinder(((4.0, 4.0, 4.0),)).find(np.zeros(SHAPE))
    assert box.shape == (0, 2, 3)
    assert measured.shape == (0, len(PLACE_COLUMNS))


def test_a_place_on_an_irrelevant_box_alone_is_not_learned_from():
    source, cases = scans(3)
    odd = np.array(rows_of(cases[0].boxes))
    odd[:, 13] = 1
    ignored = type(cases[0])(
        cases[0].case_id, cases[0].patient_key, "part", label_part_path="label",
        boxes=tuple(map(tuple, odd.tolist())),
    )  # fmt: skip
    with pytest.raises(ValueError, match="no box to be found on the training side"):
        fit_places(FOREST, source, [ignored], 0)
    fitted = fit_places(FOREST, source, [ignored, *cases[1:]], 0)
    assert fitted.finder.sizes == ((7.0, 7.0, 7.0),)


def test_a_kept_detector_finds_the_very_same(tmp_path):
    source, cases = scans(3)
    fitted = fit_places(FOREST, source, cases, 0)
    save_skops(fitted.pipeline, tmp_path / "model.skops")
    spec = ModelSpec(
        name="demo", candidate="places", task="detection", kind="sklearn", classes=("nodule",),
        features=PLACE_COLUMNS, places=finder_said(fitted.finder),
    )  # fmt: skip
    save_model(tmp_path / "kept", spec, skops=tmp_path / "model.skops")
    model = load_model(tmp_path / "kept")
    assert isinstance(model, PlaceModel)
    assert not model.spec.of_pictures
    image = source.image(cases[0].case_id)
    found, kept = find_places(fitted.finder, fitted.pipeline, image, 1), model.detect(image[None])
    np.testing.assert_array_equal(found.box, kept.box)
    np.testing.assert_array_equal(found.score, kept.score)
    (truth,) = boxes_on(rows_of(cases[0].boxes), AFFINE)
    np.testing.assert_allclose(kept.box[0].mean(0), truth.mean(0), atol=1)
    with pytest.raises(ValueError, match="one channel"):
        model.detect(np.stack([image, image]))
    with pytest.raises(ModelRefused, match="what is looked for"):
        PlaceModel(spec.model_copy(update={"places": None}), fitted.pipeline)
