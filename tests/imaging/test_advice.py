import pytest

from tasks.imaging.advice import RULES, advice
from tasks.imaging.steps import STEPS, parse_steps


@pytest.mark.parametrize(
    ("step", "modalities", "words"),
    [
        ({"step": "clahe"}, ["CT"], "recipe step 1, clahe, on CT makes the same tissue another"),
        ({"step": "clahe"}, ["CT", "DX", "PT"], "on CT and PT"),
        ({"step": "histogram_standard"}, ["CT"], "method: fingerprint"),
        ({"step": "percentile_clip"}, ["CT"], "use clip with numbers"),
        ({"step": "normalise", "method": "fingerprint"}, ["MR"], "mean something else in each"),
        ({"step": "bias_correction"}, ["US"], "models the coils of MR"),
        ({"step": "window", "name": "lung"}, ["MR"], "Hounsfield units, which only CT has"),
        ({"step": "log_compress"}, ["US"], "compressed already"),
        ({"step": "lee"}, ["US"], "say kind: additive"),
    ],
)
def test_a_step_that_does_not_suit_is_named_with_its_reason(step, modalities, words):
    (line,) = advice(parse_steps([step]), modalities)
    assert words in line


@pytest.mark.parametrize(
    ("steps", "modalities"),
    [
        ([{"step": "clahe"}, {"step": "percentile_clip"}], ["CR", "DX", "MG"]),
        ([{"step": "window", "name": "lung"}, {"step": "normalise"}], ["CT"]),
        ([{"step": "window", "name": "header"}], ["CT", "MR"]),
        ([{"step": "window", "level": 600, "width": 900}], ["MR"]),
        ([{"step": "bias_correction"}, {"step": "histogram_standard"}], ["MR"]),
        ([{"step": "lee", "kind": "additive"}], ["US"]),
        ([{"step": "normalise", "method": "fingerprint"}], ["CT"]),
        ([{"step": "clahe"}], []),
    ],
)
def test_what_suits_is_not_talked_about(steps, modalities):
    assert advice(parse_steps(steps), modalities) == ()


def test_the_place_in_the_recipe_is_told():
    steps = parse_steps([{"step": "pad_square"}, {"step": "clahe"}, {"step": "clahe"}])
    first, second = advice(steps, ["CT"])
    assert first.startswith("recipe step 2, clahe")
    assert second.startswith("recipe step 3, clahe")


def test_rules_speak_of_steps_that_are():
    assert {rule.step for rule in RULES} <= STEPS.keys()
