"""A run with nothing to do says so without a server, a worker or a second look."""

import json

import pytest

from flows import pending
from flows.__main__ import main
from flows.cohorts import settle
from flows.forecast import forecast
from flows.home import Home
from flows.pending import all_made, cases_left, nothing_new, take_up
from flows.recipes import kept_recipe
from flows.settings import Settings
from tasks.archive.catalog import LabelRow, put_label_set, quarantine, upsert_series
from tasks.archive.commits import PartRow, commit_part, put_recipe, retry_cases, want_cases
from tasks.archive.sources import Source
from tasks.archive.vault import put_source
from tasks.errors import RadloopError
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
    assert kept_recipe(home, ready_of(home).scenario) is None
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


class Sized(Settings):
    """Settings of a machine whose workers have so much memory."""

    memory: int = 0

    @property
    def worker_memory(self) -> int:
        """Bytes of memory a local worker may use."""
        return self.memory


def of_workers(home: Home, memory: int, **more) -> Home:
    """Return the same home on a machine with other workers."""
    return Home(Sized(home=home.settings.home, memory=memory, **more))


def test_a_case_too_large_for_the_workers_is_set_aside_and_comes_back_with_larger_ones(
    home, monkeypatch
):
    said = []
    monkeypatch.setattr(pending, "say", said.append)
    giant = ready_of(home).cohort.cases[0].case_id
    key = commit(home, "image", [(giant, "out_of_memory", "")])
    commit(home, "label", [(giant, "no_mask", "")])
    assert retry_cases(home.catalog) == 1
    _, recipe = kept_recipe(home, ready_of(home).scenario)
    small, large = of_workers(home, 400 << 20), of_workers(home, 8 << 30)
    assert all_made(small, ready_of(small)) is None, "nobody was told yet"
    assert take_up(small, ready_of(small), key, recipe, 400 << 20) == ([], 1)
    assert "1 case set aside: 0.59 GB of memory needed, 0.42 GB in" in said.pop()
    (row,) = quarantine(home.catalog)
    assert (row.case_id, row.reason) == (giant, "too_large_for_workers")
    # Now there is nothing to do for these workers, and something for larger or unknown ones.
    assert all_made(small, ready_of(small)) == key
    nothing_new(small, "quiet", key)
    assert "1 of the recipe's cases wait for larger workers" in said.pop()
    given = of_workers(home, 400 << 20, dask_address="tcp://127.0.0.1:1")
    assert all_made(given, ready_of(given)) is None
    assert all_made(large, ready_of(large)) is None
    (case,), aside = take_up(large, ready_of(large), key, recipe, 8 << 30)
    assert (case.case_id, aside) == (giant, 0)
    assert quarantine(home.catalog) == []


def test_a_new_case_that_fits_is_made_beside_one_that_does_not(home):
    giant = ready_of(home).cohort.cases[0].case_id
    key = commit(home, "image", [(giant, "out_of_memory", "")])
    retry_cases(home.catalog)
    _, recipe = kept_recipe(home, ready_of(home).scenario)
    small_one = series(CASES, "north")
    small_one.facts.update(rows=16, cols=16)
    upsert_series(home.catalog, [small_one])
    mask(home, range(CASES + 1))
    (case,), aside = take_up(home, ready_of(home), key, recipe, 400 << 20)
    assert (case.series_key, aside) == (f"{CASES:032x}", 1)


def test_a_cohort_of_which_no_case_fits_is_an_error_that_says_what_to_do(home):
    recipe = fit(ready_of(home).scenario.recipe, None)
    put_recipe(home.catalog, recipe_id(recipe), "quiet", {}, "")
    needed = "no case fits into a worker, 10 cases set aside: 0.59 GB .* fewer and larger workers"
    for _ in range(2):
        with pytest.raises(RadloopError, match=needed):
            take_up(home, ready_of(home), recipe_id(recipe), recipe, 400 << 20)
    assert len(cases_left(home, ready_of(home), recipe_id(recipe))) == CASES


def test_the_check_tells_what_a_run_would_set_aside(home):
    key = commit(home, "image", [(ready_of(home).cohort.cases[0].case_id, "out_of_memory", "")])
    retry_cases(home.catalog)
    small = of_workers(home, 400 << 20)
    _, recipe = kept_recipe(home, ready_of(home).scenario)
    for _ in range(2):
        notes = "\n".join(forecast(small, small.scenario("quiet"))["notes"])
        assert "to preprocess: 1 of 10 cases" in notes
        assert "1 case set aside: 0.59 GB of memory needed" in notes
        take_up(small, ready_of(small), key, recipe, 400 << 20)


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
