import json
import re

import numpy as np
import pytest

from tasks.serve.card import (
    SYNTHETIC_BANNER,
    ReportFacts,
    card_facts,
    show_metric,
    write_card,
    write_report,
)
from tasks.serve.numbers import as_interval, show_interval


def _png(path):
    from PIL import Image

    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return path


def _facts(**changes):
    full = {
        "scenario": "limb",
        "title": "Fractures",
        "task": "classification",
        "created": "2026-01-01T00:00:00Z",
        "intended_use": "Show <script>alert(1)</script> the loop",
        "funnel": (("series", 10), ("with a label", 8)),
        "split": {"train": {"patients": 6, "cases": 6, "classes": {"a|b": 2, "c": 4}}},
        "edition": {"number": 1, "patients": 2, "uses": 3},
        "primary": "auroc",
        "candidates": (
            {"name": "cnn", "kind": "network", "chosen": True, "metrics": {"auroc": (0.9, 0.8, 1)}},
            {"name": "svm", "kind": "tabular", "metrics": {"auroc": 0.7, "brier": float("nan")}},
        ),
        "test": {"challenger": {"auroc": np.float64(0.91)}, "champion": None},
        "gate": {"verdict": "undecidable", "reason": "Too few.", "needed_patients": 1204},
    }
    return ReportFacts(**{**full, **changes})


def test_the_report_asks_for_nothing_from_outside(tmp_path):
    figure = {"path": _png(tmp_path / "roc.png"), "title": "ROC"}
    page = write_report(tmp_path / "report.html", _facts(figures=(figure,))).read_text()
    places = re.findall(r"""(?:src|href|url|action)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert len(places) == 1
    assert places[0].startswith("data:image/png;base64,")
    assert "http" not in re.sub("http-equiv", "", page)
    assert "@import" not in page


def test_texts_of_a_scenario_cannot_become_markup(tmp_path):
    page = write_report(tmp_path / "report.html", _facts()).read_text()
    card, _ = write_card(tmp_path, _facts())
    assert "<script" not in page
    assert "<script" not in card.read_text()
    assert "&lt;script&gt;" in page


def test_what_is_missing_says_not_measured(tmp_path):
    empty = ReportFacts("limb", "Fractures", "classification", "now")
    page = write_report(tmp_path / "r.html", empty).read_text()
    card, as_json = write_card(tmp_path, empty)
    assert page.count("not measured") >= 10
    assert card.read_text().count("not measured") >= 8
    assert json.loads(as_json.read_text())["gate"] == "not measured"
    assert not re.search(r"\b(None|nan|Undefined)\b", page)
    assert not re.search(r"\b(None|nan|Undefined)\b", card.read_text())


def test_research_use_only_until_a_person_changes_it(tmp_path):
    page = write_report(tmp_path / "a.html", _facts()).read_text()
    assert "RESEARCH USE ONLY" in page
    facts = _facts(status="clinical trial", status_by="Dr. A, 2026-02-01")
    page = write_report(tmp_path / "b.html", facts).read_text()
    assert "RESEARCH USE ONLY" not in page
    assert "Dr. A, 2026-02-01" in page


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_patients_are_called_so(tmp_path, synthetic):
    facts = _facts(synthetic=synthetic)
    page = write_report(tmp_path / "r.html", facts).read_text()
    card, _ = write_card(tmp_path, facts)
    assert (SYNTHETIC_BANNER in page) is synthetic
    assert (SYNTHETIC_BANNER in card.read_text()) is synthetic


def test_the_header_only_sentence_comes_first(tmp_path):
    sentence = "The header alone does as well."
    facts = _facts(header_sentence=sentence, synthetic=True)
    page = write_report(tmp_path / "r.html", facts).read_text()
    words = re.sub(r"<style>.*?</style>|<title>.*?</title>|<[^>]+>", "", page, flags=re.DOTALL)
    assert words.strip().startswith(sentence)
    card, _ = write_card(tmp_path, facts)
    assert card.read_text().startswith(f"**{sentence}**")


@pytest.mark.parametrize("metric", ["precision", "dice"])
def test_predictive_values_are_said_to_hold_at_these_patients_prevalence(tmp_path, metric):
    facts = _facts(test={"challenger": {metric: (0.9, 0.8, 1.0)}})
    pages = write_report(tmp_path / "r.html", facts), write_card(tmp_path, facts)[0]
    for page in pages:
        said = "hold where as many are positive as among these patients" in page.read_text()
        assert said is (metric == "precision")


def test_figures_verdict_and_use_count_are_shown(tmp_path):
    page = write_report(tmp_path / "r.html", _facts()).read_text()
    assert "0.900 (0.800 to 1.000)" in page
    assert 'class="tag undecidable"' in page
    assert "about 1,204 patients" in page
    assert "used 3 times so far" in page
    assert page.count('<tr class="chosen">') == 1
    card, _ = write_card(tmp_path, _facts())
    assert "| side | patients | cases | a\\|b | c |\n|---|---|---|---|---|\n| train |" in (
        card.read_text()
    )


def test_card_json_is_plain_and_names_no_folder(tmp_path):
    facts = _facts(figures=({"path": _png(tmp_path / "roc.png"), "title": "ROC"},))
    body = json.loads(json.dumps(card_facts(facts), allow_nan=False))
    assert body["figures"] == [{"path": "roc.png", "title": "ROC"}]
    assert body["candidates"][1]["metrics"]["brier"] is None
    assert str(tmp_path) not in json.dumps(body)


def test_a_missing_figure_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"roc\.png"):
        write_report(tmp_path / "r.html", _facts(figures=({"path": tmp_path / "roc.png"},)))


def test_intervals_of_every_shape_read_alike():
    expected = (0.5, 0.4, 0.6)
    triple = type("Interval", (), {"value": 0.5, "lo": 0.4, "hi": 0.6})()
    for value in (expected, {"value": 0.5, "lo": 0.4, "hi": 0.6}, triple):
        assert as_interval(value) == expected
    assert as_interval((0.5, float("nan"), 0.6)) == (0.5, None, 0.6)
    assert show_interval(None) == show_interval(float("inf")) == "not measured"
    with pytest.raises(ValueError, match="2 numbers"):
        as_interval((0.1, 0.2))


def test_who_was_not_scored_has_no_column(tmp_path):
    alone = _facts()
    both = _facts(test={"challenger": {"auroc": 0.9}, "champion": {"auroc": 0.8}})
    for facts, expected in ((alone, False), (both, True)):
        page = write_report(tmp_path / "r.html", facts).read_text()
        card = write_card(tmp_path, facts)[0].read_text()
        assert ("Champion so far" in page) == expected
        assert ("champion so far" in card) == expected
    assert "| AUROC | 0.900 | 0.800 |\n" in card
    assert "| metric | challenger | champion so far |\n|---|---|---|\n| AUROC" in card


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("froc/0.125", "sensitivity at 0.125 false alarms a scan"),
        ("ap/0.5", "AP at overlap 0.5"),
        ("ap/centre", "AP, centre hit"),
        ("dice/anterior", "Dice, anterior"),
        ("balanced_accuracy", "balanced accuracy"),
    ],
)
def test_metrics_have_words(name, words):
    assert show_metric(name) == words
