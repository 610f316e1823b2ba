"""A network trained from several seeds says how far its figure moves with the seed alone."""

import os
from dataclasses import replace

import numpy as np
import pytest

from tasks.errors import ScenarioError
from tasks.evaluate.config import EvaluateConfig
from tasks.learn.crossval import fit_fold, further_seeds
from tasks.learn.fusing import needed
from tasks.learn.job import JobCase, TrainingJob
from tasks.learn.network_candidate import MOST_SEEDS, NetworkCandidate
from tasks.learn.trial import open_search, run_trial, write_found
from tasks.scenario import parse_scenario, scenario_hash
from tasks.serve.card import ReportFacts, write_report
from tasks.serve.challenger import build_model
from tasks.serve.names import load_names
from tasks.serve.outcome import named, sum_up
from tasks.serve.seeds import HEADING, seed_metrics, seed_sections, seed_words, spread_of
from tests.flows.conftest import LIMB, TABLE
from tests.learn import small_fold

BODY = {"name": "net", "features": (4, 8), "epochs": 2, "batch": 8, "augment": "none", "lr": 1e-3}
CONFIG = EvaluateConfig(bootstrap=200)
SEEDED = LIMB.replace("network: small_cnn, epochs: 2", "network: small_cnn, epochs: 2, seeds: 3")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three seeds, and a candidate that is the second of them: (job, place, root, records)."""
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("store")
    source, cases = small_fold.bright_square_cases(36)
    stored = small_fold.write_store(root, source, cases, fixed_shape=(1, 24, 24))
    bodies = (
        NetworkCandidate(**BODY, seeds=3),
        NetworkCandidate(**BODY | {"name": "next"}, seed=1),
    )
    job = TrainingJob(
        "squares", "classification", ("plain", "square"), "square", "auroc",
        candidates=tuple(one.model_dump(mode="json") for one in bodies),
        cases=tuple(
            JobCase(c.case_id, c.patient_key, "train", k // 2 % 2, c.target, c.part_path,
                    part_digest=c.part_digest)
            for k, c in enumerate(stored)
        ),
        shape=(1, 24, 24), recipe={"steps": []},
    )  # fmt: skip
    place = job.save(tmp_path_factory.mktemp("training"))
    records = [fit_fold(place, str(root), b["name"], k) for b in job.candidates for k in job.folds]
    records += [fit_fold(place, str(root), n, k, further=s) for n, k, s in further_seeds(job)]
    return job, place, str(root), records


def of(records, name):
    return [record for record in records if record.candidate == name]


def test_further_seeds_train_every_fold_again_and_are_those_that_follow(made):
    job, _, _, records = made
    assert further_seeds(job) == [("net", fold, s) for s in (1, 2) for fold in (0, 1)]
    own, again, third = ([r for r in of(records, "net") if r.further == s] for s in (0, 1, 2))
    assert [r.case_ids for r in own] == [r.case_ids for r in again] == [r.case_ids for r in third]
    assert [r.values for r in again] == [r.values for r in of(records, "next")]
    assert [r.values for r in own] != [r.values for r in again] != [r.values for r in third]
    assert len({r.weights for r in of(records, "net")}) == 6


def test_a_fold_that_is_done_is_not_trained_again(made):
    _, place, root, records = made
    known = next(r for r in records if (r.fold, r.further) == (1, 2))
    before = os.stat(place / known.weights)
    again = fit_fold(place, root, "net", 1, further=2)
    after = os.stat(place / known.weights)
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert replace(again, seconds=0) == replace(known, seconds=0)


def test_the_first_seed_is_the_candidate_and_the_others_its_spread(made, tmp_path):
    job, place, _, records = made
    alone = sum_up(job, "net", [r for r in of(records, "net") if not r.further], CONFIG)
    found = sum_up(job, "net", of(records, "net"), CONFIG)
    assert found.figures == alone.figures
    assert found.threshold == alone.threshold
    assert found.records == alone.records
    assert found.by_seed[0] == found.figures["auroc"].value
    second = sum_up(job, "next", of(records, "next"), CONFIG)
    assert found.by_seed[1] == second.figures["auroc"].value
    assert build_model(job, place, found, tmp_path, {}).n_folds == len(job.folds)

    spread = spread_of(found)
    assert (spread.seeds, spread.lowest, spread.highest) == (
        3, min(found.by_seed), max(found.by_seed)
    )  # fmt: skip
    assert spread.lowest < spread.mean < spread.highest
    assert spread.deviation == pytest.approx(np.std(found.by_seed, ddof=1))
    assert spread_of(alone) is None
    assert seed_words(alone, "auroc") is None
    assert seed_sections([alone], "auroc") == {}
    assert seed_metrics(alone) == {}


def test_the_report_and_the_run_say_lowest_mean_and_highest(made, tmp_path):
    job, _, _, records = made
    outcomes = [sum_up(job, name, of(records, name), CONFIG) for name in ("net", "next")]
    spread = spread_of(outcomes[0])
    facts = ReportFacts(
        "s", "S", "classification", "now", sections=seed_sections(outcomes, "auroc")
    )
    page = write_report(tmp_path / "r.html", facts).read_text()
    row = page.partition(HEADING)[2].partition("</tbody>")[0]
    told = [f"{v:.3f}" for v in (spread.lowest, spread.mean, spread.highest, spread.deviation)]
    assert row.count("<td>net</td><td>3</td>") == 1
    assert "".join(f"<td>{text}</td>" for text in told) in row
    assert "<td>next</td>" not in row
    assert seed_words(outcomes[0], "auroc") == (
        f"net, 3 seeds: auroc {told[0]} to {told[2]}, mean {told[1]}, standard deviation {told[3]}"
    )
    names = load_names()
    metrics = seed_metrics(outcomes[0])
    assert [names.check_metric(name) for name in metrics] == list(metrics)
    assert metrics["oof/seeds_lowest"] == spread.lowest


def test_figures_of_classes_make_room_for_the_spread():
    names = load_names()
    room = names.metrics_per_run - len(names.epoch_metrics)
    figures = {"dice": 0.5} | {f"dice/c{n}": 0.5 for n in range(room // 3 - 1)}
    assert len(named("oof", figures, names)) == room // 3
    assert list(named("oof", figures, names, spare=4)) == ["oof/dice"]


def test_who_trains_again_trains_from_one_seed(made):
    job = made[0]
    bodies = needed(job, "net")
    assert "seeds" not in bodies[0]
    assert further_seeds(replace(job, candidates=bodies)) == []


def test_settings_that_were_searched_hold_for_every_seed(made, tmp_path):
    job, _, root, _ = made
    body = NetworkCandidate(
        **BODY | {"epochs": 1}, monitor="auroc", search={"lr": [1e-3]}, max_trials=1, seeds=2
    ).model_dump(mode="json")
    folds = tuple(replace(c, fold=k // 2 % 3) for k, c in enumerate(job.cases))
    searched = replace(job, candidates=(body,), cases=folds)
    place = searched.save(tmp_path)
    search = open_search(searched, place, "net", 0)
    for ask in search.ask():
        search.tell(run_trial(place, root, "net", 0, ask))
    write_found(place, "net", 0, search)
    own, again = (fit_fold(place, root, "net", 0, further=s) for s in (0, 1))
    assert own.params["lr"] == again.params["lr"] == 1e-3
    assert own.values != again.values


def test_one_seed_is_what_a_scenario_says_by_saying_nothing():
    said = NetworkCandidate(**BODY, seeds=1)
    assert "seeds" not in said.model_dump(mode="json")
    plain, seeded = parse_scenario(LIMB), parse_scenario(SEEDED)
    one = parse_scenario(SEEDED.replace("seeds: 3", "seeds: 1"))
    assert scenario_hash(one) == scenario_hash(plain) != scenario_hash(seeded)
    assert seeded.candidates[0].seeds == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SEEDED.replace("seeds: 3", f"seeds: {MOST_SEEDS + 1}"), f"seeds.*{MOST_SEEDS}"),
        (SEEDED.replace("seeds: 3", "seeds: 0"), "seeds.*1"),
        (LIMB.replace("kind: header,", "kind: header, seeds: 2,"), "seeds: 2.*kind header.*once"),
        (TABLE.replace("estimator: tree", "estimator: tree, seeds: 2"), "kind tabular.*remove"),
        (
            TABLE.replace(
                "evaluate:",
                "  - {name: both, kind: fusion, members: [tree, logistic], seeds: 2}\nevaluate:",
            ),
            "kind fusion.*fitted once",
        ),
    ],
    ids=["too many", "none", "header", "table", "fusion"],
)
def test_seeds_are_refused_where_they_say_nothing(text, why):
    with pytest.raises(ScenarioError, match=why):
        parse_scenario(text)
