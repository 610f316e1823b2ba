"""Applications at `standard`, where the network's interval has to lie above the baseline's.

Each takes less than an hour on two cores. The classical way is a threshold for outlines, and
measured features with an SVM or a forest for the others. Both are judged on the same patients: the
test side for outlines, else out of fold, where every candidate is judged.
"""

import pytest

from tasks.scenario import load_scenario
from tests.flows.at_standard import BEATS, beside, candidates, demonstrated, longer
from tests.flows.running import Place

HOURS = pytest.mark.timeout(4 * 3600)

JUDGED = {
    "fracture": ("demo-fracture", "auroc", "small-cnn"),
    "breast-cancer": ("demo-ultrasound", "auroc", "small-cnn"),
    "lung-nodule": ("demo-lung", "cpm", "retinanet"),
}
"""Demonstration -> scenario, primary metric and the network among its candidates."""

BASELINES = {"radiomics-svm", "radiomics-forest", "places-forest"}

PATIENTS = {"fracture": 640, "breast-cancer": 800, "lung-nodule": 60}

CHANGES = {
    "fracture": {"robustness: {cases: 24}": "robustness: {cases: 0}"},
    "breast-cancer": {
        "robustness: {kind: ultrasound, cases: 24}": "robustness: {cases: 0}",
    },
    "lung-nodule": {
        "epochs: 6": "epochs: 12",
        "robustness: {kind: ct, cases: 3, corruptions: [dose_noise]}": "robustness: {cases: 0}",
    },
}

OUTLINE = {
    "epochs: 12": "epochs: 20",
    "robustness: {kind: ultrasound, cases: 6}": "robustness: {cases: 0}",
}


@pytest.mark.parametrize("demo", JUDGED)
def test_a_budget_leaves_a_scenario_with_network_and_baseline(demo, tmp_path):
    name, metric, network = JUDGED[demo]
    (tmp_path / f"{name}.yaml").write_text(longer(name, CHANGES[demo]))
    scenario = load_scenario(name, (tmp_path,))
    assert scenario.evaluate.primary == metric
    names = {one.name for one in scenario.candidates}
    assert network in names
    assert names & BASELINES


def test_the_outline_s_budget_is_a_scenario(tmp_path):
    name = "demo-ultrasound-mask"
    (tmp_path / f"{name}.yaml").write_text(longer(name, OUTLINE))
    assert load_scenario(name, (tmp_path,)).candidates[0].epochs == 20


@HOURS
@pytest.mark.slow
@pytest.mark.parametrize("demo", JUDGED)
def test_a_network_is_above_measured_features(demo, tmp_path):
    place, (scenario, metric, network) = Place(tmp_path), JUDGED[demo]
    said = demonstrated(place, demo, changes=CHANGES[demo], patients=PATIENTS[demo])
    found = candidates(place, scenario, metric)
    ours, theirs = found[network], [found[name] for name in BASELINES & found.keys()]
    assert theirs
    assert ours.low > max(one.high for one in theirs)
    assert BEATS in said


@HOURS
@pytest.mark.slow
def test_an_outlined_mass_is_above_the_threshold_s(tmp_path):
    place = Place(tmp_path)
    said = demonstrated(place, "breast-outline", changes=OUTLINE)
    network, baseline = beside(place, "demo-ultrasound-mask", "dice")
    assert network.low > baseline.high
    assert BEATS in said
