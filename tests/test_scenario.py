"""A scenario says what is done, refuses what it does not know, and stays light to read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.errors import ScenarioError
from tasks.scenario import (
    Scenario,
    load_scenario,
    parse_scenario,
    public_copy,
    scenario_hash,
    scenario_names,
    to_yaml,
)

SHIPPED = Path(__file__).resolve().parents[1] / "deployments" / "scenarios"

MOST_MODULES = 500
"""The command line must answer at once.  Modules are counted and not seconds, which say how busy
the machine is: 441 are imported now, numpy's and pydantic's among them."""

HEAVY = ("torch", "monai", "mlflow", "sklearn", "skimage", "SimpleITK", "pandas")


def _text(name="chest-xray"):
    return (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")


def _changed(change, name="chest-xray"):
    data = yaml.safe_load(_text(name))
    change(data)
    return yaml.safe_dump(data, sort_keys=False)


def _refusal(change, name="chest-xray"):
    with pytest.raises(ScenarioError) as error:
        parse_scenario(_changed(change, name), "it.yaml")
    return str(error.value)


def test_importing_scenario_is_light():
    code = "import json, sys, tasks.scenario; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    modules = json.loads(run.stdout)
    assert not set(HEAVY) & set(modules)
    assert len(modules) < MOST_MODULES


@pytest.mark.parametrize(
    "name",
    [path.stem for path in sorted(SHIPPED.glob("*.yaml"))],
)
def test_shipped_scenarios_are_complete_and_say_what_they_are_not_for(name):
    scenario = load_scenario(name, [SHIPPED])
    assert scenario.name == name
    assert "research use only" in scenario.intended_use.lower()
    assert len(scenario.not_for) > 50
    assert len(scenario.population) > 50
    assert scenario.split.key == "public"
    assert scenario.synthetic is name.startswith("demo-")
    header_only = [c.name for c in scenario.candidates if c.kind == "header"]
    sees_images = scenario.task == "classification" and scenario.cohort.kind != "row"
    assert bool(header_only) == sees_images, "header-only is the check against shortcuts"


def test_a_model_of_a_public_set_is_applied_to_a_hospitals_dicom():
    for name in ("lung-nodule", "fracture", "breast-ultrasound", "breast-ultrasound-mask"):
        cohort = load_scenario(name, [SHIPPED]).cohort
        assert cohort.kind != "dicom"
        assert cohort.predicted_kinds == (cohort.kind, "dicom")
    # What is not said is not told: other scenarios keep their hash.
    assert "also_predict" not in load_scenario("chest-xray", [SHIPPED]).cohort.model_dump()


def test_six_candidates_or_more_stand_on_the_compare_page():
    candidates = load_scenario("breast-cancer", [SHIPPED]).candidates
    assert len(candidates) >= 6
    assert "seed-svc" in [candidate.name for candidate in candidates]


def test_the_name_or_a_file_is_taken_and_the_first_folder_wins(tmp_path):
    (tmp_path / "chest-xray.yaml").write_text(
        _changed(lambda data: data.update(title="Mine")), encoding="utf-8"
    )
    assert load_scenario("chest-xray", [tmp_path, SHIPPED]).title == "Mine"
    assert load_scenario("chest-xray", [SHIPPED, tmp_path]).title != "Mine"
    assert load_scenario(tmp_path / "chest-xray.yaml", []).title == "Mine"


@pytest.mark.parametrize("name", ["chest-xry", "../scenarios/chest-xray", "nowhere"])
def test_what_is_not_there_is_refused_with_what_is(name):
    with pytest.raises(ScenarioError, match=r"there are .*breast-cancer.*, chest-xray") as error:
        load_scenario(name, [SHIPPED])
    assert ("nearest is 'chest-xray'" in str(error.value)) == (name != "nowhere")


def test_a_missing_file_or_a_name_that_differs_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match=r"none\.yaml does not exist"):
        load_scenario(str(tmp_path / "none.yaml"), [SHIPPED])
    (tmp_path / "other.yaml").write_text(_text(), encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"other\.yaml calls its scenario 'chest-xray'"):
        load_scenario("other", [tmp_path])
    assert scenario_names([tmp_path, SHIPPED])[-1] == "other"


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ((), "recipee", "recipee is unknown: nearest is 'recipe'"),
        (("cohort",), "modalty", "cohort.modalty is unknown: nearest is 'modality'"),
        (("labels",), "clases", "labels.clases is unknown: nearest is 'classes'"),
        (("split",), "fold", "split.fold is unknown: nearest is 'folds'"),
        (("evaluate", "operating_point"), "atleast", "nearest is 'at_least'"),
        (("gate",), "margn", "gate.margn is unknown: nearest is 'margin'"),
        (("trigger",), "max_age", "trigger.max_age is unknown: nearest is 'max_age_days'"),
        (("candidates", 0), "epocs", "candidates[0].epocs is unknown: nearest is 'epochs'"),
        (("candidates", 1), "serach", "candidates[1].serach is unknown: nearest is 'search'"),
    ],
)
def test_an_unknown_key_is_named_with_its_path_and_the_nearest(path, key, expected):
    def plant(data):
        for step in path:
            data = data[step]
        data[key] = 1

    assert expected in _refusal(plant)


def test_a_patience_is_refused_with_what_to_do_and_one_unsaid_is_not():
    said = _refusal(lambda data: data["candidates"][0].update(patience=20))
    assert "candidates[0]: patience: no epoch is chosen" in said
    assert "set epochs" in said
    # As an older radloop spelt its defaults out.
    unsaid = parse_scenario(_changed(lambda data: data["candidates"][0].update(patience=None)))
    assert unsaid == parse_scenario(_text())


def test_an_unknown_step_or_parameter_is_named():
    def wrong_step(data):
        data["recipe"][1]["step"] = "pad_squre"

    def wrong_parameter(data):
        data["recipe"][2]["shap"] = [1, 2, 3]

    assert "pad_square" in _refusal(wrong_step)
    assert "recipe" in _refusal(wrong_step)
    assert "shap" in _refusal(wrong_parameter)


def test_every_problem_is_said_at_once():
    def plant(data):
        del data["title"]
        data["split"]["test"] = 3
        data["candidates"][0]["kind"] = "netwrk"

    refusal = _refusal(plant)
    assert "title is missing: add it" in refusal
    assert "split.test: Input should be less than 1" in refusal
    assert "candidates[0]" in refusal
    assert "netwrk" in refusal


CONTRADICTIONS = [
    ("chest-xray", "candidates", [{"name": "a", "kind": "tabular", "estimator": "tree"}],
     "a is tabular and the cohort has images; add the step features to the recipe"),
    ("breast-cancer", "candidates", [{"name": "a", "kind": "network"}],
     "a is a network and the cohort has rows"),
    ("breast-cancer", "candidates", [{"name": "a", "kind": "header", "estimator": "tree"}],
     "rows of a table have no header"),
    ("hippocampus", "candidates", [{"name": "a", "kind": "header", "estimator": "tree"}],
     "which cannot segment"),
    ("breast-cancer", "recipe", [{"step": "pad_square"}], "rows of a table have no images"),
    ("chest-xray", "recipe", [], "images need at least one step"),
    ("chest-xray", "recipe", [{"step": "features", "families": ["intensity"]}] * 2,
     "two features steps give the column 'image_intensity_mean'"),
    ("chest-xray", "task", "segmentation", "format table does not serve the task segmentation"),
    ("chest-xray", "evaluate", {"primary": "dice"}, "dice does not measure a classification"),
    ("chest-xray", "evaluate", {"primary": "hd95"}, "hd95 does not measure a classification"),
    ("hippocampus", "evaluate", {"primary": "lesion_dice"}, "needs the key lesions"),
    ("hippocampus", "evaluate", {"primary": "cpm"}, "does not measure a segmentation"),
    ("hippocampus", "evaluate", {"primary": "froc"}, "is not a metric"),
    ("hippocampus", "evaluate", {"primary": "auroc"}, "auroc does not measure a segmentation"),
    ("chest-xray", "schedule", {"retrain": "weekly"}, "'weekly' is not a cron line"),
    ("chest-xray", "name", "Chest X-ray", "name: "),
]  # fmt: skip


MEASURED = {"step": "features", "families": ["intensity", "glcm"], "bins": 32}


def test_images_have_tabular_candidates_where_the_recipe_measures_them():
    table = {"name": "a", "kind": "tabular", "estimator": "tree"}

    def plant(data):
        data["recipe"].insert(0, MEASURED)
        data["candidates"].append({**table, "features": ["image_intensity_mean"]})

    found = parse_scenario(_changed(plant))
    assert found.candidate("a").features == ("image_intensity_mean",)

    def misspelt(data):
        data["recipe"].insert(0, MEASURED)
        data["candidates"] = [{**table, "features": ["image_intensity_meen"]}]

    assert "nearest is 'image_intensity_mean'" in _refusal(misspelt)


@pytest.mark.parametrize(("name", "key", "value", "sentence"), CONTRADICTIONS)
def test_parts_that_contradict_each_other_are_refused(name, key, value, sentence):
    assert sentence in _refusal(lambda data: data.update({key: value}), name)


def test_two_candidates_of_one_name_are_refused():
    def twice(data):
        data["candidates"][1]["name"] = data["candidates"][0]["name"]

    assert "'small-cnn' stands there twice" in _refusal(twice)


@pytest.mark.parametrize("text", ["", "- a\n- b", "a: [1", "name: a\nname: b"])
def test_what_is_not_a_mapping_with_single_keys_is_refused(text):
    with pytest.raises(ScenarioError, match=r"not YAML|not a mapping"):
        parse_scenario(text)


def test_yes_and_no_are_class_names_and_not_booleans():
    def classes(data):
        data["labels"].update(classes=["nein", "ja"], positive="ja")

    text = _changed(classes).replace("nein", "no").replace("ja\n", "yes\n")
    labels = parse_scenario(text).labels
    assert tuple(labels.classes) == ("no", "yes")
    assert labels.positive == "yes"


def test_the_hash_counts_what_is_said_and_not_how():
    original = parse_scenario(_text())
    spelt_out = parse_scenario(to_yaml(original))
    reordered = parse_scenario(yaml.safe_dump(yaml.safe_load(_text()), sort_keys=True))
    assert original == spelt_out == reordered
    assert scenario_hash(original) == scenario_hash(spelt_out) == scenario_hash(reordered)
    other = parse_scenario(_changed(lambda data: data["split"].update(test=0.21)))
    assert scenario_hash(other) != scenario_hash(original)


def test_the_public_copy_holds_no_place():
    def places(data):
        data["labels"].update(file="/wards/ann-poe/labels.csv", issuer="wards of St Ann")
        data["split"] = {"source": "file", "file": "/wards/split.tsv", "column": "set"}

    scenario = parse_scenario(_changed(places))
    copy = public_copy(scenario)
    assert "wards" not in to_yaml(copy)
    assert (copy.labels.file, copy.split.file) == ("labels-file.csv", "split-file.tsv")
    assert isinstance(copy, Scenario)
    assert copy.candidates == scenario.candidates


DETECTION = """\
name: breaks
title: Fractures
task: detection
intended_use: Tests. Research use only.
not_for: Anything clinical.
population: Nobody.
cohort: {kind: picture}
labels: {format: boxes, file: boxes.csv, join: sop, classes: [fracture], normals: /wards/well.csv}
recipe: [{step: normalise, method: zscore}]
evaluate: {primary: ap}
candidates: [{name: finder, kind: network, network: retinanet2d}]
"""


def test_a_detection_needs_boxes_a_class_and_a_detector():
    scenario = parse_scenario(DETECTION)
    assert scenario.draws_labels
    copy = public_copy(scenario)
    assert (copy.labels.file, copy.labels.normals) == ("labels-file.csv", "normals-file.csv")
    for old, new, message in (
        ("format: boxes", "format: table, column: c", "format table does not serve the task det"),
        ("task: detection", "task: classification", "format boxes does not serve the task class"),
        ("[fracture]", "[fracture], positive: fracture", "at least one class to be found"),
        ("retinanet2d", "small_cnn", "has network small_cnn; a detection needs one of retinanet3d"),
        ("kind: network, network: retinanet2d", "kind: header, estimator: logistic", "not detect"),
        (
            "kind: network, network: retinanet2d",
            "kind: tabular, estimator: forest, features: [contrasts]",
            "names 'contrasts', which is not measured at places; nearest is 'contrast'",
        ),
    ):
        assert old in DETECTION
        with pytest.raises(ScenarioError, match=message):
            parse_scenario(
                DETECTION.replace(old, new).replace(
                    ", normals: /wards/well.csv", "" if "format" in old else ", normals: rest"
                )
            )


def test_a_classical_detector_is_the_baseline_of_a_network():
    both = DETECTION.replace(
        "retinanet2d}]",
        "retinanet2d}, {name: places, kind: tabular, estimator: forest, features: [contrast]}]\n"
        "gate: {beat_baseline: true}",
    ).replace("/wards/well.csv", "rest")
    assert parse_scenario(both).candidate("places").features == ("contrast",)


def test_a_candidate_is_found_by_name():
    scenario = parse_scenario(_text())
    assert scenario.candidate("header-only").kind == "header"
    with pytest.raises(ScenarioError, match="it has small-cnn, header-only"):
        scenario.candidate("resnet")


def test_a_standard_recipe_is_named_and_counts_as_its_steps():
    named = parse_scenario(_changed(lambda data: data.update(recipe="radiograph")))
    spelt = parse_scenario(to_yaml(named))
    assert named.recipe[0].step == "percentile_clip"
    assert scenario_hash(named) == scenario_hash(spelt)
    said = _refusal(lambda data: data.update(recipe="radiografh"))
    assert "did you mean 'radiograph'" in said


def test_a_mask_that_no_step_before_makes_is_said_before_anything_runs():
    said = _refusal(
        lambda data: data.update(
            recipe=[{"step": "crop_to_mask", "mask": "lungs"}, {"step": "lung"}]
        )
    )
    assert "crop_to_mask reads mask 'lungs'" in said
    assert "made by then: none" in said


@pytest.mark.parametrize(("before", "refused"), [("window", True), ("clip", False)])
def test_a_scale_of_source_images_after_another_unit_is_said_before_anything_runs(before, refused):
    numbers = {"name": "lung"} if before == "window" else {"low": -1000, "high": 400}
    fitted = {"step": "normalise", "method": "fingerprint"}
    resize = {"step": "resize", "shape": [1, 64, 64]}
    recipe = [{"step": before, **numbers}, fitted, resize]
    if refused:
        said = _refusal(lambda data: data.update(recipe=recipe))
        assert "normalise learns its scale from the images as they are read, and window" in said
    else:
        assert parse_scenario(_changed(lambda data: data.update(recipe=recipe))).recipe
