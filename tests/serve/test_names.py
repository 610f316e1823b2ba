import subprocess
import sys

import pytest

from tasks.evaluate.intervals import Interval
from tasks.evaluate.known import METRICS
from tasks.serve.names import load_names, metric_name
from tasks.serve.outcome import figure_rows, named

NAMES = load_names()


@pytest.mark.parametrize(
    "name",
    ["test/auroc", "oof/recall_lo", "val/dice/anterior", "test/dice/anterior_hi", "train/loss"],
)
def test_a_name_of_the_table_passes(name):
    assert NAMES.check_metric(name) == name


def test_every_figure_has_a_name_and_the_same_better():
    for name, info in METRICS.items():
        assert NAMES.better(f"test/{name}") == info.direction


@pytest.mark.parametrize(
    "name",
    ["auroc", "train/auroc", "test/auc", "test/auroc_mid", "test/dice/Left", "test/dice/a/b", "lo"],
)
def test_a_metric_outside_the_table_is_refused_with_the_nearest(name):
    with pytest.raises(ValueError, match="the nearest is"):
        NAMES.check_metric(name)


def test_placeholders_take_one_word():
    assert NAMES.check_param("candidate/weight_decay")
    for bad in ("candidate/", "candidate/a/b", "plan", "candidate/A"):
        with pytest.raises(ValueError, match="parameter name"):
            NAMES.check_param(bad)


def test_mlflows_own_tags_pass_and_unknown_ones_do_not():
    assert NAMES.check_tag("mlflow.parentRunId")
    with pytest.raises(ValueError, match="'edition'"):
        NAMES.check_tag("editions")


def test_a_class_becomes_a_word_of_a_metric_name():
    name = metric_name("oof", "dice", "Left Hippocampus (ant.)")
    assert name == "oof/dice/left_hippocampus_ant"
    assert NAMES.check_metric(name)
    with pytest.raises(ValueError, match="no letter or digit"):
        metric_name("oof", "dice", "——")


def test_the_limit_of_metrics_a_run_is_below_a_hundred():
    NAMES.check_count(f"m{n}" for n in range(99))
    with pytest.raises(ValueError, match="100 metrics"):
        NAMES.check_count(f"m{n}" for n in range(100))


def test_direction_of_a_metric():
    assert NAMES.better("test/brier") == "lower"
    assert NAMES.better("oof/dice/anterior") == "higher"
    assert NAMES.better("val/loss") == "lower"


def test_a_table_without_a_section_is_refused(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text("tags: {}\n")
    with pytest.raises(ValueError, match="lacks the section 'experiments'"):
        load_names(path)


def test_names_gate_card_and_results_do_not_import_mlflow():
    code = (
        "import sys, tasks.serve.names, tasks.serve.card, tasks.serve.results, tasks.serve.ledger;"
        "sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_classes_own_figures_are_named_as_far_as_a_run_has_room():
    for classes, kept in ((2, {"dice", "nsd", "hd95"}), (16, {"dice"}), (40, set())):
        figures = {}
        for name in ("dice", "nsd", "hd95"):
            for label in ("", *(f"/c{i}" for i in range(classes))):
                figures[name + label] = Interval(0.5, 0.4, 0.6, "made", 9)
        shown = named("oof", figures, NAMES)
        assert {"oof/dice", "oof/nsd", "oof/hd95"} <= shown.keys()
        assert {name.split("/")[1] for name in shown if name.count("/") == 2} == kept
        NAMES.check_count([*NAMES.epoch_metrics, *range(3 * len(shown))])
        assert len(figure_rows(figures)) == 3 * (classes + 1)
