"""A folder that calls its values otherwise than the scenario is refused before anything learns."""

import json

import pytest

from tasks.archive.sources import Source
from tasks.labels.attach import attach_labels
from tasks.labels.config import LabelConfig
from tasks.labels.told_classes import class_misfit

NNUNET = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing": [3]}
PARTS = {"0": "background", "1": "Anterior", "2": "Posterior"}


@pytest.mark.parametrize(
    ("labels", "more", "wrong"),
    [
        (PARTS, {"classes": ("anterior", "posterior")}, ""),
        (PARTS, {"classes": ("posterior", "anterior")}, "anterior is 1"),
        ({"anterior": 1, "posterior": 2}, {"classes": ("posterior", "anterior")}, "anterior is 1"),
        # The Decathlon's Task01, and nnU-Net's copy of BraTS.
        ({"1": "edema", "2": "non-enhancing tumor"}, {"regions": "brats2023"}, "oedema is 1"),
        (NNUNET, {"regions": "brats2023"}, "a region is 2 and 3"),
        ({"WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}, {"regions": "brats2023"}, ""),
        ({"WT": [1, 2, 4], "TC": [1, 4], "ET": 4}, {"regions": "brats2021"}, ""),
        ({"WT": [1, 2, 4], "TC": [1, 4], "ET": 4}, {"regions": "brats2024"}, "WT is 1 and 2 and 4"),
        ({"1": "left", "2": "right"}, {"classes": ("anterior", "posterior")}, ""),
        (["anterior"], {"classes": ("anterior",)}, ""),
        (None, {"classes": ("anterior",)}, ""),
    ],
)
def test_values_that_bear_another_name_are_told(labels, more, wrong):
    found = class_misfit({"labels": labels}, LabelConfig(format="decathlon", **more))
    assert wrong in found
    assert bool(found) == bool(wrong)


def test_joining_labels_of_a_folder_that_contradicts_is_refused(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": PARTS}))
    config = LabelConfig(format="decathlon", classes=("posterior", "anterior"))
    source = Source("here", "folder", str(tmp_path))
    with pytest.raises(ValueError, match="anterior is 1 in its masks, the scenario reads 2"):
        attach_labels(source, config, None, None, None)
