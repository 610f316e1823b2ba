"""Small detectors find something in synthetic wrists and chests within minutes of a CPU.

Easy phantoms on purpose: this proves that a detector learns, and says nothing about patients.
"""

import numpy as np
import pytest

from tasks.learn.boxes import boxes_of_instances
from tasks.learn.dataset import ArrayCases
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import plan_network
from tasks.learn.train import train_fold
from tasks.phantom.chest import draw_chest
from tasks.phantom.radiograph import VIEWS, expose
from tasks.phantom.stack import axial_affine
from tasks.phantom.wrist import draw_wrist
from tests.learn.drawn_boxes import labelled

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.slow,
    # A training of minutes, beside other work more.
    pytest.mark.timeout(3600),
]

CHEST = {"shape": (32, 96, 112), "spacing": (2.5, 3.0, 3.0)}
WRIST = {"shape": (128, 96), "spacing": 1.0}


def _normal(image: np.ndarray) -> np.ndarray:
    return ((image - image.mean()) / image.std()).astype(np.float32)


def wrists(patients: int):
    """Return two views a patient, with the boxes of fractures."""
    images, labels, cases = {}, {}, []
    affine = np.diag([1.0, WRIST["spacing"], WRIST["spacing"], 1.0])
    for patient in range(patients):
        wrist = draw_wrist(patient, difficulty="easy")
        for number, view in enumerate(VIEWS):
            film = expose(wrist, view, **WRIST)
            case_id = f"{patient:032x}{number:032x}"
            images[case_id] = _normal(film.image[None].astype(np.float32))
            mask = np.zeros((1, *WRIST["shape"]), np.uint16)
            # Larger boxes first, so that smaller ones lie on top.
            boxes = np.array(sorted(film.boxes.tolist(), key=lambda b: -(b[2] - b[0]))).round()
            for n, (top, left, bottom, right) in enumerate(boxes.astype(int), start=1):
                mask[0, top : bottom + 1, left : right + 1] = n
            labels[case_id] = mask
            numbers, box = boxes_of_instances(mask)
            labels[case_id] = np.searchsorted(numbers, mask, side="right").astype(np.uint16)
            cases.append(labelled(case_id, box, [0] * len(box), affine))
    return ArrayCases(images, labels, affines=dict.fromkeys(images, affine)), cases


def chests(patients: int):
    """Return chests with the boxes of the nodules that fill a voxel at all."""
    images, labels, cases = {}, {}, []
    affine = axial_affine(**CHEST)
    for patient in range(patients):
        chest = draw_chest(patient, difficulty="easy", **CHEST)
        case_id = f"{patient:064x}"
        images[case_id] = _normal(np.clip(chest.body, -1000, 300))
        numbers, box = boxes_of_instances(chest.labels)
        # Instances are numbered without gaps.
        numbered = np.searchsorted(numbers, chest.labels, side="right")
        labels[case_id] = numbered.astype(np.uint16)
        cases.append(labelled(case_id, box, [0] * len(box), affine))
    return ArrayCases(images, labels, affines=dict.fromkeys(images, affine)), cases


def _train(out_dir, source, cases, network: str, **fields):
    shape = source.shape(cases[0].case_id)
    sizes = [tuple(s) for c in cases for s in np.diff(_grid(source, c), axis=1)[:, 0].tolist()]
    plan = plan_network(
        NetworkCandidate(name="small", network=network, **fields), task="detection", shape=shape,
        n_classes=1, n_cases=len(cases), box_sizes=sizes,
        spacing=source.spacing(cases[0].case_id),
    )  # fmt: skip
    ids = [case.case_id for case in cases]
    cut = len(ids) * 3 // 4
    return train_fold(
        plan, source, cases, ids[:cut], ids[cut:], out_dir, 1, device="cpu", on_epoch=print
    )


def _grid(source, case):
    return boxes_of_instances(source.label(case.case_id))[1]


@pytest.mark.parametrize("network", ["retinanet2d", "maskrcnn"])
def test_fractures_of_synthetic_wrists_are_found(network, tmp_path):
    source, cases = wrists(48)
    result = _train(tmp_path, source, cases, network, epochs=20, lr=3e-3, batch=4)
    assert result.history[-1]["val_ap"] > 0.2


def test_nodules_of_synthetic_chests_are_found(tmp_path):
    source, cases = chests(32)
    result = _train(
        tmp_path, source, cases, "retinanet3d", epochs=20, lr=3e-3, batch=2, foreground=0.5,
        steps_per_epoch=12, patch=(32, 64, 64), features=(16, 24, 32, 48),
    )  # fmt: skip
    assert result.history[-1]["val_ap"] > 0.2
