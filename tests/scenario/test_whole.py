"""A classifier sees whole images of one size: recipes that leave many are refused when read."""

import pytest
import yaml

from tasks.errors import ScenarioError
from tasks.scenario import parse_scenario

TEXT = """\
name: sizes
title: Images of many sizes
task: classification
intended_use: Research use only.
not_for: Anything clinical.
population: Nobody.
cohort: {kind: dicom, modality: [MR]}
labels: {format: table, file: labels.csv, join: accession, column: c, classes: [well, ill],
  positive: ill}
recipe: auto
candidates:
  - {name: cnn, kind: network, network: small_cnn}
"""

RESIZE = {"step": "resize", "shape": [32, 48, 48]}
NONZERO = {"step": "crop", "shape": "nonzero"}
PAD, CROP = ({"step": name, "shape": [32, 48, 48]} for name in ("pad", "crop"))
SCALE = {"step": "normalise", "method": "zscore"}


def read(recipe, **more):
    return parse_scenario(yaml.safe_dump(yaml.safe_load(TEXT) | {"recipe": recipe} | more))


@pytest.mark.parametrize(
    "recipe",
    ["auto", [NONZERO, SCALE], [RESIZE, NONZERO], [NONZERO, PAD, SCALE], "mr-brain"],
)
def test_a_recipe_of_many_sizes_is_refused_with_what_to_add(recipe):
    with pytest.raises(ScenarioError) as error:
        read(recipe)
    assert "leaves every image a size of its own, and cnn sees whole images" in str(error.value)
    assert "{step: resize, shape: [64, 96, 96]}" in str(error.value)


@pytest.mark.parametrize(
    "recipe",
    [[NONZERO, RESIZE], [NONZERO, PAD, CROP, SCALE], [SCALE], "radiograph"],
)
def test_one_size_or_the_files_own_pass(recipe):
    assert read(recipe).recipe


def test_what_is_no_network_of_whole_images_takes_any_size():
    header = [{"name": "h", "kind": "header", "estimator": "logistic"}]
    assert read("auto", candidates=header).recipe
    masks = {"format": "decathlon", "classes": ["lesion"]}
    net = [{"name": "net", "kind": "network", "network": "nnunet3d"}]
    said = {"task": "segmentation", "cohort": {"kind": "nifti"}, "evaluate": {"primary": "dice"}}
    assert read("auto", labels=masks, candidates=net, **said).recipe
