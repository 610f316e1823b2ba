"""The preview command on a small archive: nothing preprocessed before, and no server."""

import pytest

from tasks.phantom.ct import write_ct_series
from tests.flows.test_export import take_in

SCENARIO = """\
name: look
title: Synthetic bodies
task: classification
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Drawn by a program.
cohort: {{kind: dicom, modality: CT}}
labels:
  {{format: table, file: labels.csv, join: accession, column: target, classes: [a, b], positive: b}}
recipe:
{recipe}
candidates:
  - {{name: header-only, kind: header, estimator: logistic}}
"""


@pytest.fixture
def archive(fresh):
    write_ct_series(fresh.folder / "archive" / "plain", seed=1)
    write_ct_series(fresh.folder / "archive" / "tilted", seed=2, tilt_deg=10)
    return take_in(fresh, fresh.folder / "archive")


def scenario(fresh, recipe):
    path = fresh.folder / "look.yaml"
    path.write_text(SCENARIO.format(recipe=recipe))
    return path


def test_unlabelled_cases_are_shown_and_a_refused_one_says_why(fresh, archive):
    path = scenario(fresh, "  - {step: window, name: soft}".replace("soft", "mediastinum"))
    ran = fresh.radloop("preview", path, "--cases", 9).ok()
    page = fresh.home / "previews" / "look.html"
    assert ran.out.split(":")[0] == str(page)
    assert "2 of 2 cases, 1 refused" in ran.out
    text = page.read_text()
    assert text.count('<section class="case">') == 2
    assert "gantry_tilt" in text
    assert "SYNTHETIC DATA" in text
    assert not (fresh.home / "prefect").exists()


def test_a_recipe_that_learns_says_when_there_is_nobody_to_learn_from(fresh, archive):
    path = scenario(fresh, "  - {step: normalise, method: fingerprint}")
    ran = fresh.radloop("preview", path)
    assert ran.code == 1
    assert "no training case" in ran.err


def test_a_scenario_without_cases_shows_its_funnel(fresh):
    ran = fresh.radloop("preview", "chest-xray")
    assert ran.code == 1
    assert "dicom cases in the catalog: 0" in ran.err
