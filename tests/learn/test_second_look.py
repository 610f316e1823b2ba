"""What a second look cuts out and learns from, and that it changes scores alone and is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tasks.learn import second_lesson
from tasks.learn.boxes import Findings, boxes_of_case, boxes_of_instances, classes_of_places
from tasks.learn.detect import detect
from tasks.learn.fold import Fold, read_weights
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.second_look import SIDE, SecondLook, boxes_in, cut_out, look_again
from tasks.learn.train import train_fold
from tests.learn.drawn_boxes import VOLUME, detector_plan, drawn_cases

CPU = torch.device("cpu")
BOX = torch.tensor([[6.0, 8.0, 12.0, 14.0, 16.0, 20.0]])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def planned(**fields):
    return detector_plan("retinanet3d", second_look=True, **fields)


class Stub(torch.nn.Module):
    """A detector of which only the second look is asked."""

    def __init__(self):
        super().__init__()
        self.second = SecondLook(planned())


def test_a_cut_shows_the_box_in_its_middle_with_as_much_around_it():
    # Positions as values: a cut of a box of 8 reaches from 4 before it to 4 after it.
    image = torch.from_numpy(np.indices(VOLUME).astype(np.float32))
    (cut,) = cut_out(image, BOX)
    assert cut.shape == (3, SIDE, SIDE, SIDE)
    for axis, start in enumerate((2.0, 4.0, 8.0)):
        line = cut[axis].movedim(axis, 0)[:, 0, 0]
        np.testing.assert_allclose(line, start + np.arange(SIDE), atol=1e-4)


def test_a_margin_adds_samples_at_the_same_steps():
    image = torch.randn(2, *VOLUME)
    wide = cut_out(image, BOX, margin=2)
    torch.testing.assert_close(wide[:, :, 2:-2, 2:-2, 2:-2], cut_out(image, BOX))


def test_cuts_of_several_boxes_are_those_of_each():
    image = torch.randn(2, *VOLUME)
    other = BOX + 3
    both = cut_out(image, torch.cat([BOX, other]))
    torch.testing.assert_close(both, torch.cat([cut_out(image, BOX), cut_out(image, other)]))
    assert cut_out(image, BOX[:0], margin=1).shape == (0, 2, SIDE + 2, SIDE + 2, SIDE + 2)


def test_places_are_right_wrong_or_left_out():
    box = np.array([[[4.0, 4, 4], [10, 10, 10]], [[20.0, 4, 4], [26, 10, 10]]])
    place = np.concatenate([box + 1, box[:1] + 12])
    target, counts = classes_of_places(place, box, np.array([1, 0]), np.array([False, True]))
    assert target.tolist() == [2, 0, 0]
    assert counts.tolist() == [True, False, True]


def test_untaught_it_changes_no_order():
    box = np.array([[[2.0, 2, 2], [8, 8, 8]], [[8.0, 8, 8], [14, 14, 14]]])
    found = Findings([0, 0], [0.9, 0.4], box)
    again = look_again([Stub().eval()], torch.randn(1, *VOLUME), found)
    np.testing.assert_array_equal(again.box, found.box)
    np.testing.assert_allclose(again.score, np.sqrt(found.score / 2), rtol=1e-6)


def test_it_learns_which_of_its_detectors_findings_are_right(monkeypatch):
    """Bright cubes are wanted; the detector (played here) also finds the dark ones."""
    source, cases = drawn_cases(20, VOLUME, classes=2, empty=99)
    bright = tuple(replace(c, boxes=tuple(b for b in c.boxes if b[0] == 0)) for c in cases)
    every = {c.case_id: boxes_of_instances(source.label(c.case_id))[1] for c in cases}

    def played(networks, plan, image, device):
        (case_id,) = (c for c in every if np.array_equal(source.image(c), image))
        box = every[case_id]
        return Findings(np.zeros(len(box), int), np.full(len(box), 0.5), box)

    monkeypatch.setattr(second_lesson, "detect", played)
    monkeypatch.setattr(second_lesson, "STEPS", 40)
    ids = tuple(c.case_id for c in cases)
    fold = Fold(
        planned(), source, {}, ids[:14], ids[14:], 3, boxes={c.case_id: c.boxes for c in bright}
    )
    network = Stub().eval()
    assert second_lesson.teach(network, fold, CPU) > 10
    assert not any(p.requires_grad for p in network.second.parameters())
    right, wrong = [], []
    for case, one in zip(cases[14:], bright[14:], strict=True):
        image = torch.from_numpy(source.image(case.case_id))[None]
        said = look_again([network], image, played(None, None, source.image(case.case_id), CPU))
        hits, _ = classes_of_places(
            said.box, *boxes_of_case(one.boxes, source.affine(case.case_id))
        )
        right += said.score[hits > 0].tolist()
        wrong += said.score[hits == 0].tolist()
    assert min(right) > max(wrong)
    # Nothing to be told apart teaches nothing.
    none = replace(fold, boxes=dict.fromkeys(ids, ()))
    assert second_lesson.teach(Stub().eval(), none, CPU) == 0


def test_a_fold_keeps_its_second_look_and_it_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(second_lesson, "STEPS", 20)
    source, cases = drawn_cases(6, VOLUME)
    ids = [case.case_id for case in cases]
    found, plans = {}, {}
    for name, fields in (("one", {}), ("two", {"second_look": True})):
        plans[name] = detector_plan(
            "retinanet3d", epochs=1, batch=2, steps_per_epoch=20, lr=1e-2, **fields
        )
        found[name] = train_fold(
            plans[name], source, cases, ids[:4], ids[4:], tmp_path / name, 5, device="cpu"
        )
    weights = {name: read_weights(found[name].weights_path)[0] for name in found}
    # The detector itself is the same to the last bit: only what looks again is new.
    assert all(torch.equal(weights["two"][key], one) for key, one in weights["one"].items())
    assert any(key.startswith("second.") for key in weights["two"])
    network = build_network(plans["two"])
    network.load_state_dict(weights["two"])
    said = detect([network.eval()], plans["two"], source.image(ids[4]), CPU)
    np.testing.assert_allclose(said.score, found["two"].val_findings[0][:, 1], rtol=1e-5)
    assert len(said) == len(found["one"].val_findings[0]) > 0


def test_it_is_of_volumes_alone():
    with pytest.raises(ValidationError, match="second_look: maskrcnn has none"):
        NetworkCandidate(name="a", network="maskrcnn", second_look=True)
    assert "second_look" not in NetworkCandidate(name="a", network="retinanet3d").model_dump()
    plain = detector_plan("retinanet3d").detector
    assert "second_look" not in plain.model_dump()


def test_boxes_are_cut_where_they_were_found():
    image = torch.zeros(1, *VOLUME)
    image[0, 6:14, 8:16, 12:20] = 1
    ((low, high),) = boxes_of_instances(image[0].numpy().astype(int))[1]
    cut = cut_out(image, boxes_in(np.array([[low, high]]), CPU))[0, 0]
    assert cut[4:12, 4:12, 4:12].min() > 0.99
    assert cut.sum() == pytest.approx(8**3)
