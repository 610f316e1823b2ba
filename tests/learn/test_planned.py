"""A plan is said in one line and recorded under names that MLflow's table knows."""

from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import plan_network
from tasks.learn.planned import mirrored_sides, plan_in_words, plan_params
from tasks.serve.names import load_names


def _plan(**fields):
    candidate = NetworkCandidate(name="n", network="nnunet3d", **fields)
    return plan_network(
        candidate, task="segmentation", shape=(36, 50, 35), n_classes=3, n_cases=260
    )


def test_the_published_plan_is_said_in_one_line():
    assert plan_in_words(_plan()) == (
        "nnunet3d, patch 40x56x40, channels 32-64-128-256, batch 9, "
        "100 epochs of 250 batches, sgd 0.01 poly"
    )


def test_what_the_scenario_sets_wins():
    words = plan_in_words(_plan(patch=(32, 48, 32), features=(8, 16), batch=3, accumulate=4))
    assert "patch 32x48x32, channels 8-16, batch 3 x 4" in words


def test_classes_that_mirroring_makes_one_another_are_named():
    lungs = ("heart", "Left lung", "right lung")
    said = mirrored_sides(lungs, _plan())
    assert said.startswith("mirrored along z, y, x, which makes one of Left lung and right lung")
    assert mirrored_sides(lungs, _plan(augment={"preset": "nnunet", "flip": []})) == ""
    assert mirrored_sides(("heart", "left lung"), _plan()) == ""


def test_the_record_has_names_of_the_table():
    params = plan_params(_plan())
    assert params["plan/kernels"] == "3x3x3 3x3x3 3x3x3 3x3x3"
    assert "plan/<name>" in load_names().params
    assert all(name.startswith("plan/") for name in params)
