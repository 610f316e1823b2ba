"""The recipe of the loop learns on its training patients alone, and then stands."""

import json
from collections.abc import Iterator

import pytest

from flows.cohorts import Ready, settle
from flows.fitting import FINGERPRINT_CASES
from flows.home import Home
from flows.orders import orders_of
from flows.settings import Settings
from tasks.archive.commits import recipe_for
from tasks.archive.orders import WorkOrder
from tasks.hashing import digest_json
from tasks.imaging.recipe import FittedRecipe, fit
from tasks.store.fill import measure_order

LEARNING = 3
"""Where histogram_standard stands in the recipe of the loop."""


@pytest.fixture(scope="module")
def known(loop) -> Iterator[tuple[Home, Ready]]:
    """The home of the loop with its cases and sides; looking decides nothing new."""
    home = Home(Settings(home=loop.home))
    yield home, settle(home, home.scenario("small-limb", keep=False))
    home.catalog.dispose()
    home.vault.dispose()


def learnt_from(known, cases) -> FittedRecipe:
    """Fit the recipe of the loop here, on some of its cases."""
    home, ready = known
    steps = ready.scenario.recipe
    assert steps[LEARNING].step == "histogram_standard"
    before = fit(steps[:LEARNING], None)
    order = WorkOrder("", "", tuple(orders_of(home, cases, {})))
    return fit(steps, None, {LEARNING: measure_order(order, before, steps[LEARNING])})


def kept(known) -> FittedRecipe:
    home, ready = known
    return FittedRecipe.from_dict(recipe_for(home.catalog, ready.scenario.name)[1]["recipe"])


def test_the_standard_is_that_of_the_training_patients(known):
    training = known[1].cases_on("train")
    assert 10 < len(training) <= FINGERPRINT_CASES
    assert kept(known) == learnt_from(known, training)


def test_test_patients_do_not_enter_the_fit(known):
    training, tested = known[1].cases_on("train"), known[1].cases_on("test")
    assert tested
    assert not {case.patient_key for case in training} & {case.patient_key for case in tested}
    with_tested = learnt_from(known, [*training, *tested])
    assert with_tested.fitted_on != kept(known).fitted_on
    assert with_tested.steps[LEARNING].params != kept(known).steps[LEARNING].params


def test_the_fit_is_frozen_with_the_hash_of_its_cases(known):
    ids = {case.case_id for case in known[1].cases_on("train")}
    home, _ = known
    # A case that cannot be read teaches nothing, and does not count.
    order = WorkOrder("", "", tuple(orders_of(home, known[1].cases_on("train"), {})))
    steps = known[1].scenario.recipe
    read = [c.case_id for c in measure_order(order, fit(steps[:LEARNING], None), steps[LEARNING])]
    assert set(read) <= ids
    assert kept(known).fitted_on == digest_json(sorted(read))


def test_new_patients_are_prepared_with_the_frozen_fit(loop, known):
    """The model carries the fit into every prediction, of strangers too."""
    (model,) = loop.home.glob("artifacts/*/*/artifacts/model/model.json")
    carried = FittedRecipe.from_dict(json.loads(model.read_text())["recipe"])
    assert carried == kept(known)
    rows = (loop.out("strangers") / "predictions.csv").read_text().splitlines()
    assert len(rows) > 1
