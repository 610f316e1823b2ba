"""Four sequences of a brain from their files to a mask, and on without one of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.__main__ import main
from flows.cohorts import cases_named, settle
from flows.forecast import no_cases
from flows.home import Home
from flows.jobs import write_job
from flows.orders import orders_of
from flows.settings import Settings
from tasks.archive.catalog import cases, quarantine
from tasks.archive.intake import ingest
from tasks.archive.sources import resolve_source
from tasks.cohort.select import narrow
from tasks.errors import BadCase
from tasks.evaluate.segmentation import dice_per_class
from tasks.imaging.recipe import FittedRecipe
from tasks.learn.crossval import fit_fold
from tasks.learn.judge import judge_image, missing_channels
from tasks.learn.model import load_model
from tasks.learn.model_file import ModelSpec, save_model
from tasks.scenario.text import parse_scenario
from tasks.store.read import open_part
from tests.flows.brats import SCENARIO, SEQUENCES, made, number_of, preprocessed, write_patient

PATIENTS = 8


def write_archive(folder: Path) -> None:
    """Eight patients: one without T2, one without the T1c that every case needs."""
    for number in range(PATIENTS):
        write_patient(folder, number, {3: ("t2w",), 7: ("t1c",)}.get(number, ()), number % 2 == 1)


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    """A home with the brains in its store."""
    folder = tmp_path_factory.mktemp("brains")
    write_archive(folder / "archive")
    home = Home(Settings(home=folder / "home"))
    source = resolve_source(str(folder / "archive"), "brats")
    report = ingest(source, home.catalog, home.vault, home.names)
    assert (report.accounted, sum((report.quarantined or {}).values())) == (report.seen, 0)
    scenario = parse_scenario(SCENARIO)
    ready = settle(home, scenario)
    key, recipe, refused = preprocessed(home, ready)
    assert refused == []
    yield home, ready, key, recipe
    home.catalog.dispose()
    home.vault.dispose()


def test_the_funnel_and_the_quarantine_say_who_has_which_sequence(brains):
    home, ready, key, _ = brains
    funnel = dict(ready.cohort.funnel)
    assert funnel["studies with such series"] == PATIENTS
    assert funnel["with t1c and t2f"] == PATIENTS - 1
    assert len(ready.cohort.cases) == PATIENTS - 1
    (row,) = [row for row in quarantine(home.catalog) if row.recipe_id == key]
    assert (row.stage, row.reason) == ("preprocess", "missing_channel")
    assert "no series for t1c" in row.detail
    assert no_cases(ready.cohort) == [f"1 studies are no case, e.g. {row.detail}"]
    ids = [case.case_id for case in ready.cohort.cases]
    assert cases_named(home, ready.scenario, [*ids[:2], "f" * 32]) == list(ready.cohort.cases[:2])


def test_every_sequence_is_stored_on_one_grid_in_the_order_of_the_scenario(brains):
    home, ready, _, _ = brains
    job = write_job(home, ready)
    for case in job.cases:
        part = open_part(home.settings.store_root, case.part_path, case.part_digest)
        assert part.channels == SEQUENCES
        array, info = part.read(case.case_id), part.info(case.case_id)
        (found,) = [c for c in ready.cohort.cases if c.case_id == case.case_id]
        number = number_of(home, found)
        images, mask = made(number)
        assert info.present == (True, True, number != 3, True)
        inside = np.argwhere(images["t1c"] > 0)
        low, high = inside.min(0), inside.max(0) + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        start = [(-(n // -4) * 4 - n) // 2 for n in high - low]
        for name, stored in zip(SEQUENCES, array, strict=True):
            if number == 3 and name == "t2w":
                assert not stored.any()
                continue
            cut = images[name][box].astype(np.float64)
            z = np.where(cut != 0, (cut - cut[cut != 0].mean()) / cut[cut != 0].std(), 0)
            where = tuple(slice(s, s + n) for s, n in zip(start, cut.shape, strict=True))
            np.testing.assert_allclose(stored[where], z, atol=1e-4)
        labels = open_part(home.settings.store_root, case.label_part_path)
        # Of the years in which the enhancing tumour was 4 as of those in which it is 3.
        np.testing.assert_array_equal(labels.read(case.case_id)[where], mask[box])


def test_the_preview_shows_every_channel_there_is_after_the_recipe(brains, tmp_path, capsys):
    home, *_ = brains
    (tmp_path / "tumour.yaml").write_text(SCENARIO)
    words = ["preview", str(tmp_path / "tumour.yaml"), "--home", str(home.settings.home)]
    page = tmp_path / "page.html"
    assert main([*words, "--cases", "9", "--out", str(page)]) == 0
    assert f"{PATIENTS - 1} of {PATIENTS - 1} cases, 0 refused" in capsys.readouterr().out
    shown = {name: page.read_text().count(f'alt="channel {name}"') for name in SEQUENCES}
    # One patient has no T2, and a channel of zeros is nothing to look at.
    assert shown == {name: PATIENTS - 1 - (name == "t2w") for name in SEQUENCES}


@pytest.fixture(scope="module")
def trained(brains, tmp_path_factory):
    """One fold of the candidate as a model that is loaded from its files."""
    home, ready, _, recipe = brains
    folder = tmp_path_factory.mktemp("trained")
    job = write_job(home, ready)
    place = job.save(folder)
    record = fit_fold(place, home.settings.store_root, "unet", 0)
    plan = job.plan(job.candidate("unet"))
    assert (plan.in_channels, plan.droppable) == (4, (0, 2))
    spec = ModelSpec(
        name="tumour", candidate="unet", task="segmentation", kind="network",
        classes=("background", *job.classes), plan=plan, recipe=recipe.to_dict(),
    )  # fmt: skip
    save_model(folder / "model", spec, folds=[place / record.weights])
    return load_model(folder / "model"), record


def test_a_network_trains_on_four_channels_and_its_folds_are_judged(trained):
    _, record = trained
    assert np.isfinite(record.history[0]["loss"])
    assert np.array(record.values).shape[1] == 3


@pytest.mark.parametrize("missing", [(), ("t2w",), ("t1n", "t2w")])
def test_a_new_patient_is_judged_with_the_sequences_there_are(trained, brains, tmp_path, missing):
    model, _ = trained
    _, ready, _, _ = brains
    write_patient(tmp_path / "new", 90, missing)
    home = Home(Settings(home=tmp_path / "home"))
    ingest(resolve_source(str(tmp_path / "new"), "new"), home.catalog, home.vault, home.names)
    found, _, refused = narrow(cases(home.catalog, kind="nifti"), ready.scenario.cohort)
    (order,) = orders_of(home, found)
    one = judge_image(model, order)
    assert refused == ()
    assert one.present == tuple(name not in missing for name in SEQUENCES)
    assert missing_channels(model.spec, one) == [n for n in SEQUENCES if n in missing]
    images, mask = made(90)
    assert one.mask.shape == mask.shape
    np.testing.assert_array_equal(one.image, images["t1c"])
    assert one.shown.ndim == 3
    assert 0 <= dice_per_class(mask, one.mask, 3)[0].min() <= 1
    home.catalog.dispose()
    home.vault.dispose()


def test_a_patient_without_a_needed_sequence_is_answered_with_the_reason(trained, brains):
    model, _ = trained
    home, ready, _, _ = brains
    (order,) = orders_of(home, ready.cohort.cases[:1])
    lacking = tuple(one for one in order.series if one.channel != "t2f")
    with pytest.raises(BadCase, match="no series for t2f") as refusal:
        judge_image(model, replace(order, series=lacking))
    assert refusal.value.reason == "missing_channel"


def test_the_recipe_knows_its_channels_again(brains):
    *_, recipe = brains
    assert FittedRecipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.channels["names"] == list(SEQUENCES)
