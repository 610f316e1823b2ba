"""A run with nothing to do says so without a server, a worker or a second look."""

import json

import pytest

from flows.__main__ import main
from flows.cohorts import settle
from flows.home import Home
from flows.pending import all_made, cases_left, kept_recipe
from flows.settings import Settings
from tasks.archive.catalog import LabelRow, put_label_set, upsert_series
from tasks.archive.commits import PartRow, commit_part, put_recipe, want_cases
from tasks.archive.sources import Source
from tasks.archive.vault import put_source
from tasks.imaging.recipe import fit
from tasks.imaging.steps import asked_for
from tasks.labels.config import label_set_name
from tasks.store.schema import recipe_id
from tests.flows.test_plans import series

CASES = 10

SCENARIO = """\
name: quiet
title: Nothing new
task: segmentation
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody.
cohort: {kind: nifti}
labels: {format: decathlon, classes: [lesion]}
recipe: [{step: normalise, method: zscore}]
split: {source: keyed, test: 0.2, folds: 2, strata: []}
candidates: [{name: small, kind: network, network: unet3d, epochs: 1}]
evaluate: {primary: dice}
"""


@pytest.fixture
def home(tmp_path):
    """A home of ten masked series, none of them in the store."""
    home = Home(Settings(home=tmp_path))
    put_source(home.vault, Source("north", "folder", "/archive"))
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "quiet.yaml").write_text(SCENARIO)
    upsert_series(home.catalog, [series(n, "north") for n in range(CASES)])
    mask(home, range(CASES))
    yield home
    home.catalog.dispose()
    home.vault.dispose()


def mask(home: Home, numbers) -> None:
    rows = [LabelRow("series", f"{n:032x}", None, 100 + n) for n in numbers]
    name = label_set_name(home.scenario("quiet").labels)
    put_label_set(
        home.catalog, name=name, source="north", author="t", digest=f"{numbers}", rows=rows
    )


def ready_of(home: Home):
    return settle(home, home.scenario("quiet"))


def commit(home: Home, kind: str, failures=()) -> str:
    """Commit a part of every case that did not fail, as a run would have."""
    ready = ready_of(home)
    steps = ready.scenario.recipe
    recipe = fit(steps, None)
    key = recipe_id(recipe)
    put_recipe(
        home.catalog, key, "quiet", {"asked": asked_for(steps), "recipe": recipe.to_dict()}, ""
    )
    ids = [case.case_id for case in ready.cohort.cases]
    want_cases(home.catalog, key, ids)
    failed = {case_id for case_id, _, _ in failures}
    held = tuple(case_id for case_id in ids if case_id not in failed)
    (label_set,) = ready.label_sets.values()
    own = {"image": "a" * 32, "label": "b" * 32}[kind]
    row = PartRow(
        own,
        kind,
        key,
        label_set if kind == "label" else None,
        "a" * 32 if kind == "label" else None,
        f"parts/{own}",
        held,
        9,
        own,
    )
    commit_part(home.catalog, row, failures)
    return key


def test_a_scenario_without_recipe_images_or_masks_has_something_to_do(home):
    assert kept_recipe(home, ready_of(home)) is None
    assert all_made(home, ready_of(home)) is None
    key = commit(home, "image")
    assert cases_left(home, ready_of(home), key) == []
    assert all_made(home, ready_of(home)) is None, "the masks are not made"
    commit(home, "label")
    assert all_made(home, ready_of(home)) == key


def test_a_new_case_is_something_to_do_and_one_in_quarantine_is_not(home):
    bad = ready_of(home).cohort.cases[0].case_id
    key = commit(home, "image", [(bad, "no_slices", "")])
    commit(home, "label", [(bad, "no_mask", "")])
    assert cases_left(home, ready_of(home), key) == []
    upsert_series(home.catalog, [series(CASES, "north")])
    mask(home, range(CASES + 1))
    (left,) = cases_left(home, ready_of(home), key)
    assert left.series_key == f"{CASES:032x}"
    assert all_made(home, ready_of(home)) is None


def test_a_changed_recipe_is_something_to_do(home):
    commit(home, "image")
    commit(home, "label")
    place = home.settings.home / "scenarios" / "quiet.yaml"
    place.write_text(SCENARIO.replace("zscore", "percentile"))
    assert all_made(home, ready_of(home)) is None


def test_the_command_says_so_records_it_and_starts_no_server(home, capsys):
    commit(home, "image")
    commit(home, "label")
    place = home.settings.home
    assert main(["preprocess", "quiet", "--home", str(place)]) == 0
    assert "0 cases in 0 parts, 0 quarantined" in capsys.readouterr().out
    assert not (place / "prefect" / "server.json").exists()
    assert not (place / "dask").exists()
    lines = (place / "audit.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "preprocess"
