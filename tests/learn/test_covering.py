"""What a finding rests on: a detector of known habits, and one that learned drawn boxes."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from tasks.evaluate.saliency import pointing
from tasks.learn.boxes import Findings
from tasks.learn.covering import ITS_BOX, TRUE_BOX, cover
from tasks.learn.detectors import Found
from tests.learn.drawn_boxes import PICTURE, VOLUME, detector_plan

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


class Habit(nn.Module):
    """It always finds one box, as sure as a place of the image is bright."""

    def __init__(self, box: np.ndarray, place: tuple[slice, ...], most: float = 1.0) -> None:
        super().__init__()
        self.box, self.place, self.most = torch.tensor(box), place, most
        self.asked = 0

    def forward(self, x: torch.Tensor) -> list[Found]:
        self.asked += len(x)
        bright = [float(one[0][self.place].mean()) * self.most for one in x]
        return [
            Found(self.box[None], torch.tensor([max(0.0, b)]), torch.tensor([0])) for b in bright
        ]


@dataclass
class Asked:
    """What `cover` needs of a model."""

    networks: list
    plan: object
    device: torch.device = CPU


def corners(box: np.ndarray, dims: int) -> np.ndarray:
    """Return a box of index coordinates (2, 3) as a network tells it, corner of voxel 0 at 0."""
    low, high = box + 0.5
    axes = (1, 2) if dims == 2 else (0, 1, 2)
    return np.array([low[list(axes)], high[list(axes)]], np.float32).ravel()


def covered(shape, box, rests_on, network, **more):
    """Explain a finding of a network that looks at one part of the image alone."""
    image = np.zeros(shape, np.float32)
    image[rests_on] = 1.0
    plan = detector_plan("retinanet2d" if shape[0] == 1 else "retinanet3d")
    place = rests_on[1:] if shape[0] == 1 else rests_on
    habit = Habit(network(box, plan.dims), place, **more)
    finding = Findings([0], [0.8], box[None])
    return cover(Asked([habit], plan), "c", image, image, finding, box[None] + [0, 1, 1]), habit


def test_a_finding_that_rests_on_its_box_falls_when_it_is_covered():
    box = np.array([[-0.5, 23.5, 29.5], [0.5, 33.5, 39.5]])
    rests_on = (slice(0, 1), slice(24, 34), slice(30, 40))
    one, habit = covered(PICTURE, box, rests_on, corners)
    assert (one.score, one.base) == (0.8, 1.0)
    assert habit.asked == 1 + 81
    assert one.fall.shape == one.image.shape == (1, 50, 50)
    # Covers are as large as the box: the one that lies on it leaves nothing.
    assert one.least == 0
    pointed = one.pointed()
    assert pointed.fall == 1
    hit, energy, area = pointed.masks[ITS_BOX]
    assert hit
    assert area == pytest.approx(100 / 2500)
    assert energy > 5 * area
    assert pointed.masks[TRUE_BOX][0]


def test_a_finding_that_rests_on_something_beside_it_shows_that():
    box = np.array([[-0.5, 23.5, 29.5], [0.5, 33.5, 39.5]])
    beside = (slice(0, 1), slice(4, 12), slice(40, 48))
    one, _ = covered(PICTURE, box, beside, corners)
    hit, energy, _ = one.pointed().masks[ITS_BOX]
    assert not hit
    assert energy < 0.05
    low = np.array([24, 30]) - 20
    place = np.array(np.unravel_index(one.fall[0].argmax(), one.fall[0].shape)) + low
    assert abs(place - [8, 44]).max() <= 5


def test_a_finding_of_a_volume_is_covered_in_a_patch_of_it():
    box = np.array([[9.5, 9.5, 11.5], [15.5, 17.5, 19.5]])
    rests_on = (slice(10, 16), slice(10, 18), slice(12, 20))
    one, habit = covered(VOLUME, box, rests_on, corners)
    assert habit.asked == 1 + 125
    assert one.fall.shape == (18, 24, 24)
    assert one.pointed().masks[ITS_BOX][0]
    row = pointing([one.pointed(), one.pointed()], replicates=50)
    assert row["findings"] == 2
    assert row[f"points into {ITS_BOX}"].value == 1
    assert row[f"energy in {ITS_BOX}"].value > 3 * row[f"area of {ITS_BOX}"].value


def test_what_no_network_finds_alone_is_not_explained_and_the_surest_is_asked():
    box = np.array([[-0.5, 23.5, 29.5], [0.5, 33.5, 39.5]])
    rests_on = (slice(0, 1), slice(24, 34), slice(30, 40))
    one, habit = covered(PICTURE, box, rests_on, lambda box, dims: corners(box + 30, dims))
    assert one is None
    assert habit.asked == 1
    image = np.zeros(PICTURE, np.float32)
    image[rests_on] = 1.0
    networks = [Habit(corners(box, 2), rests_on[1:], most) for most in (0.3, 0.9, 0.5)]
    plan = detector_plan("retinanet2d")
    finding = Findings([0], [0.6], box[None])
    one = cover(Asked(networks, plan), "c", image, image, finding, np.zeros((0, 2, 3)))
    assert one.base == pytest.approx(0.9)
    assert [network.asked for network in networks] == [1, 82, 1]
    assert TRUE_BOX not in one.masks


def test_a_finding_at_the_border_and_one_of_few_voxels_are_explained_too():
    for box in (
        np.array([[-0.5, -0.5, -0.5], [0.5, 5.5, 5.5]]),
        np.array([[-0.5, 60.5, 61.5], [0.5, 62.5, 63.5]]),
    ):
        low, high = np.round(box + 0.5).astype(int)
        rests_on = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        one, _ = covered(PICTURE, box, rests_on, corners)
        assert one.fall.shape == one.image.shape
        assert one.pointed().masks[ITS_BOX][0]
