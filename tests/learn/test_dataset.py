"""Samples by number: the same whoever asks, with foreground where it was forced."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tasks.errors import StoreError
from tasks.hashing import digest_json
from tasks.learn.dataset import ArrayCases, StoreCases, TrainingCase, preload
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import plan_network
from tasks.learn.samples import PAD_VALUE, Samples
from tasks.learn.train import train_fold
from tests.learn import small_fold


def _segmentation_plan(patch, **fields):
    candidate = NetworkCandidate(
        name="u", network="unet3d", features=(4, 8), patch=patch, batch=3, augment="none", **fields
    )
    return plan_network(candidate, task="segmentation", shape=patch, n_classes=2)


def _same(a, b):
    return (
        torch.equal(a.image, b.image)
        and a.params == b.params
        and (a.mask is None or torch.equal(a.mask, b.mask))
    )


def test_batches_do_not_depend_on_readers_or_on_what_was_asked_before():
    source, cases = small_fold.ball_cases(7, (12, 14, 16))
    plan = _segmentation_plan((8, 8, 8), steps_per_epoch=9)
    ids = [case.case_id for case in cases]
    alone = list(Samples(plan, source, ids, {}, 5).batches(2, 3))
    ahead = list(Samples(plan, source, ids, {}, 5).batches(2, 3, readers=4))
    late = Samples(plan, source, ids, {}, 5).batch(2, 6, 3)
    assert len(alone) == len(ahead) == 9
    assert all(_same(a, b) for a, b in zip(alone, ahead, strict=True))
    assert _same(alone[6], late)
    assert not _same(alone[0], Samples(plan, source, ids, {}, 6).batch(2, 0, 3))


def test_the_sides_of_a_voxel_come_with_a_case(tmp_path):
    """An affine leads from z, y, x to x, y, z; turned or mirrored axes keep their sides."""
    source, cases = small_fold.ball_cases(2, (6, 8, 10))
    affine = np.array([[0, 0.1, 0.7, 5], [0, -0.9, 0.1, 6], [3, 0, 0, 7], [0, 0, 0, 1.0]])
    stored = small_fold.write_store(tmp_path, source, cases, affine=affine)
    read = StoreCases(str(tmp_path), stored)
    ids = [case.case_id for case in cases]
    sides = (3.0, np.hypot(0.1, 0.9), np.hypot(0.7, 0.1))
    for one in (read, preload(read, ids, labels=True), preload(read, ids, labels=True, budget=1)):
        assert one.spacing(ids[1]) == pytest.approx(sides)


def test_a_pass_shows_every_case_once():
    source, cases = small_fold.bright_square_cases(24)
    ids = [case.case_id for case in cases]
    for i, case_id in enumerate(ids):
        source.images[case_id][:] = i
    plan = small_fold.classifier_plan(augment="none")
    samples = Samples(plan, source, ids, {case.case_id: case.target for case in cases}, 0)
    seen = [int(x) for b in samples.batches(1, 8) for x in b.image.amax((1, 2, 3, 4))]
    assert sorted(seen) == list(range(24))
    again = [int(x) for b in samples.batches(2, 8) for x in b.image.amax((1, 2, 3, 4))]
    assert again != seen


def test_the_last_third_of_a_batch_holds_foreground():
    image = np.zeros((40, 40, 40), np.float32)
    mask = np.zeros(image.shape, np.uint8)
    mask[3, 36, 20] = 1  # one voxel in 64,000: chance would not find it
    source = ArrayCases({"a": image}, {"a": mask})
    samples = Samples(_segmentation_plan((8, 8, 8), steps_per_epoch=12), source, ["a"], {}, 0)
    for batch in samples.batches(0, 3):
        assert batch.mask[2].sum() == 1
    free = sum(int(b.mask[:2].sum()) for b in samples.batches(0, 3))
    assert free < 12


@pytest.mark.parametrize(("batch", "share", "every"), [(1, 0.33, 3), (2, 0.2, 5)])
def test_a_batch_too_small_for_a_third_has_foreground_every_so_many_samples(batch, share, every):
    """As after a device's memory halved it: a U-Net would never see a small lesion again."""
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[3, 36, 20] = 1
    source = ArrayCases({"a": mask.astype(np.float32)}, {"a": mask})
    plan = _segmentation_plan((8, 8, 8), steps_per_epoch=30, foreground=share)
    samples = Samples(plan, source, ["a"], {}, 0)
    seen = [int(m.sum()) for found in samples.batches(0, batch) for m in found.mask]
    assert seen[::every] == [1] * len(seen[::every])
    assert sum(seen) < len(seen) / 2


def test_an_image_smaller_than_the_patch_stands_in_its_middle():
    image = np.ones((4, 6, 5), np.float32)
    mask = np.ones(image.shape, np.uint8)
    samples = Samples(_segmentation_plan((8, 8, 8)), ArrayCases({"a": image}, {"a": mask}), ["a"],
                      {}, 0)  # fmt: skip
    batch = samples.batch(0, 0, 3)
    assert batch.image.shape == (3, 1, 8, 8, 8)
    assert torch.equal(batch.image[0, 0, 2:6, 1:7, 1:6], torch.ones(4, 6, 5))
    assert float(batch.image[0].sum()) == 120 + PAD_VALUE * (512 - 120)
    assert int(batch.mask[0].sum()) == 120


def test_a_classifier_s_image_of_another_shape_names_both_shapes():
    source = ArrayCases({"a": np.zeros((1, 9, 9), np.float32)})
    samples = Samples(small_fold.classifier_plan(), source, ["a"], {"a": 0}, 0)
    with pytest.raises(ValueError, match=r"\(1, 9, 9\).*\(1, 24, 24\)"):
        samples.batch(0, 0, 1)


def test_preloading_stops_at_the_budget():
    source, cases = small_fold.bright_square_cases(6)
    ids = [case.case_id for case in cases]
    size = source.image(ids[0]).nbytes
    assert preload(source, ids, labels=False, budget=5 * size) is source
    held = preload(source, ids, labels=False, budget=6 * size)
    assert held is not source
    np.testing.assert_array_equal(held.image(ids[3]), source.image(ids[3]))


def test_samples_of_a_real_part_are_those_of_the_arrays(tmp_path):
    source, cases = small_fold.ball_cases(5, (20, 24, 18))
    stored = StoreCases(str(tmp_path), small_fold.write_store(tmp_path, source, cases))
    ids = [case.case_id for case in cases]
    plan = _segmentation_plan((8, 16, 8), steps_per_epoch=6)
    expected = list(Samples(plan, source, ids, {}, 1).batches(0, 3))
    read = list(Samples(plan, stored, ids, {}, 1).batches(0, 3, readers=3))
    assert all(_same(a, b) for a, b in zip(expected, read, strict=True))


def test_parts_are_read_by_many_threads_at_once(tmp_path):
    source, cases = small_fold.ball_cases(4, (20, 24, 18))
    stored = StoreCases(str(tmp_path), small_fold.write_store(tmp_path, source, cases))
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda i: stored.image(cases[i % 4].case_id), range(40)))
    for i, image in enumerate(images):
        np.testing.assert_array_equal(image, source.image(cases[i % 4].case_id))


def test_a_part_that_is_not_the_catalog_s_is_refused(tmp_path):
    source, cases = small_fold.bright_square_cases(3)
    (case, *_) = small_fold.write_store(tmp_path, source, cases)
    wrong = TrainingCase(case.case_id, "p", case.part_path, 0, part_digest=digest_json("other"))
    with pytest.raises(StoreError):
        StoreCases(str(tmp_path), [wrong]).image(case.case_id)


def test_a_mask_that_was_never_prepared_is_named(tmp_path):
    source, cases = small_fold.bright_square_cases(3)
    stored = small_fold.write_store(tmp_path, source, cases)
    with pytest.raises(ValueError, match="has no label part"):
        StoreCases(str(tmp_path), stored).label(cases[0].case_id)


@pytest.mark.parametrize("budget", [1 << 20, 0], ids=["in memory", "patch by patch"])
def test_a_fold_trained_from_the_store_is_the_one_trained_from_arrays(tmp_path, budget):
    source, cases = small_fold.bright_square_cases(20)
    shape = (1, small_fold.SIZE, small_fold.SIZE)
    stored = small_fold.write_store(tmp_path / "store", source, cases, fixed_shape=shape)
    ids = [case.case_id for case in cases]
    plan = small_fold.classifier_plan(epochs=2, batch=7)
    a = train_fold(plan, source, cases, ids[:14], ids[14:], tmp_path / "a", 0, device="cpu")
    b = train_fold(plan, str(tmp_path / "store"), stored, ids[:14], ids[14:], tmp_path / "b", 0,
                   device="cpu", preload_bytes=budget)  # fmt: skip
    np.testing.assert_array_equal(a.val_probability, b.val_probability)
