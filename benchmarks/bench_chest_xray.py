"""AUROC of the scenario chest-xray's network beside a random forest on the same pixels.

    python benchmarks/bench_chest_xray.py [--threads 2] [--folds 0,1,2,3,4]
        [--data ../shared/data/chest-xray]

The 900 real radiographs are taken in, split and prepared as the scenario says
(deployments/scenarios/chest-xray.yaml); its network is trained with its committed budget, fold by
fold, and so is a random forest (300 trees, radloop's own settings) on the very same 96 x 96 pixels
and folds.  Both are judged out of fold, and on the test edition: the network by the mean of its
folds, the forest refitted on all training images.  Intervals: DeLong on the logit scale over one
image a patient (the first by its id), and the bootstrap of patients over all images; differences:
paired DeLong's p on the first, the paired bootstrap of patients on all.  Neither chooses
anything on the images it is judged on: a fold is its last epoch.  With fewer folds both are judged
on those alone, and not on the test edition.  Bars: out of fold AUROC .97 over all images, and
better than the forest with p below .05.  What was prepared and trained is kept below
benchmarks/results/chest_xray, by the digest of the scenario, so a run that was stopped goes on and
one of another scenario starts anew.  Exit code 1 when a bar is missed, 2 without data.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data" / "chest-xray"
SCENARIOS = HERE.parent / "deployments" / "scenarios"
KEPT = HERE / "results" / "chest_xray"

BAR, LEVEL = 0.97, 0.05

SEED = 0


def kept() -> Path:
    """Return where the scenario's images and folds are kept: those of another lie elsewhere."""
    from tasks.scenario import load_scenario, scenario_hash

    return KEPT / scenario_hash(load_scenario("chest-xray", [SCENARIOS]))[:12]


def prepared(data: Path) -> dict[str, Any]:
    """Return ids, patients, targets, folds (-1: test edition) and pixels of all images."""
    import numpy as np

    file = kept() / "pixels.npz"
    if not file.exists():
        rows = _prepare(data)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(".pixels.npz")
        np.savez(beside, **{name: np.array(values) for name, values in rows.items()})
        beside.replace(file)
    with np.load(file) as found:
        return {name: found[name] for name in found.files}


def _prepare(data: Path) -> dict[str, list[Any]]:
    """Take the archive in, settle the scenario's sides, and obey its recipe in this process."""
    from flows.cohorts import settle
    from flows.home import Home
    from flows.orders import orders_of
    from flows.settings import Settings
    from tasks.archive.intake import ingest
    from tasks.archive.sources import resolve_source
    from tasks.imaging.channels import prepare
    from tasks.imaging.recipe import fit
    from tasks.labels.attach import attach_labels
    from tasks.scenario import load_scenario

    scenario = load_scenario("chest-xray", [SCENARIOS])
    home = Home(Settings(home=kept() / "home"))
    try:
        source = resolve_source(str(data), "chest-xray")
        ingest(source, home.catalog, home.vault, home.names)
        attach_labels(source, scenario.labels, home.names, home.catalog, home.vault)
        ready, recipe = settle(home, scenario), fit(scenario.recipe, None)
        chosen = [*ready.cases_on("train"), *ready.cases_on("test")]
        rows: dict[str, list[Any]] = {n: [] for n in ("id", "patient", "target", "fold", "pixels")}
        for case, order in zip(chosen, orders_of(home, chosen), strict=True):
            side = ready.sides[case.patient_key]
            rows["id"].append(case.case_id)
            rows["patient"].append(case.patient_key)
            label = ready.cohort.targets[case.case_id]
            rows["target"].append(scenario.labels.classes.index(label))
            rows["fold"].append(side.fold if side.side == "train" else -1)
            rows["pixels"].append(prepare(recipe, order).image.array)
        return rows
    finally:
        home.catalog.dispose()
        home.vault.dispose()


def by_network(rows: dict[str, Any], folds: list[int]) -> Any:
    """Return the network's probability of pneumonia of every image, as `judged` wants it."""
    import numpy as np
    import torch

    from tasks.learn.dataset import ArrayCases, TrainingCase
    from tasks.learn.fold import read_weights
    from tasks.learn.infer import classify
    from tasks.learn.networks import build_network
    from tasks.learn.plan import plan_network
    from tasks.learn.train import train_fold
    from tasks.scenario import load_scenario

    candidate = load_scenario("chest-xray", [SCENARIOS]).candidate("small-cnn")
    shape = rows["pixels"].shape[1:]
    plan = plan_network(candidate, task="classification", shape=shape, n_classes=2)
    images = dict(zip(rows["id"].tolist(), rows["pixels"], strict=True))
    columns = [rows[name].tolist() for name in ("id", "patient", "target")]
    cases = [TrainingCase(c, p, "", target=t) for c, p, t in zip(*columns, strict=True)]
    held, said, networks = rows["fold"], np.zeros(len(cases)), []
    for fold in folds:
        inside = held == fold
        sides = [rows["id"][side].tolist() for side in ((held >= 0) & ~inside, inside)]
        done = train_fold(
            plan, ArrayCases(images), cases, *sides, kept() / f"fold{fold}", SEED, device="cpu"
        )
        said[inside] = done.val_probability[:, 1]
        print(f"  fold {fold}: {len(done.history)} epochs, {done.seconds:.0f} s", flush=True)
        network = build_network(plan)
        network.load_state_dict(read_weights(done.weights_path)[0])
        networks.append(network.eval())
    test = (held < 0) & (len(folds) == held.max() + 1)
    if not test.any():
        return said
    seen = list(rows["pixels"][test])
    said[test] = classify(networks, plan, seen, torch.device("cpu"))[:, 1]
    return said


def by_forest(rows: dict[str, Any], folds: list[int]) -> Any:
    """Return the forest's probability of pneumonia of every image, as `judged` wants it."""
    import numpy as np

    from tasks.learn.estimators import build_estimator

    flat = rows["pixels"].reshape(len(rows["pixels"]), -1)
    held, said = rows["fold"], np.zeros(len(flat))
    for fold in (*folds, -1):
        inside = held == fold
        learnt = (held >= 0) & ~inside
        model = build_estimator("forest", {}, SEED).fit(flat[learnt], rows["target"][learnt])
        said[inside] = model.predict_proba(flat[inside])[:, 1]
    return said


def judged(rows: dict[str, Any], side: Any, network: Any, forest: Any, name: str) -> list[Any]:
    """Print the figures of a side; return area, the forest's and the gap of each way to count."""
    import numpy as np

    from tasks.evaluate.compare import paired_metric
    from tasks.evaluate.predictions import Predictions
    from tasks.evaluate.table import metric_table

    def told(said: Any, kept: Any) -> Predictions:
        pair = np.stack([1 - said, said], 1)[kept]
        ids, patients, target = (rows[n][kept] for n in ("id", "patient", "target"))
        return Predictions(ids.tolist(), patients.tolist(), target, pair, ("normal", "pneumonia"))

    everyone = np.flatnonzero(side)
    everyone = everyone[np.argsort(rows["id"][everyone])]
    first = everyone[np.unique(rows["patient"][everyone], return_index=True)[1]]
    found = []
    for words, kept in (("one image a patient", first), ("all images", everyone)):
        ours, theirs = told(network, kept), told(forest, kept)
        area, other = (metric_table(one)["auroc"] for one in (ours, theirs))
        gap = paired_metric(ours, theirs, "auroc")
        print(
            f"{name}, {words}: {len(kept)} of {gap.n_patients} patients; network AUROC "
            f"{_told(area)}, forest {_told(other)} ({area.method}); network better by {_gap(gap)}",
            flush=True,
        )
        found.append((area, other, gap))
    return found


def _told(one: Any) -> str:
    return f"{one.value:.4f} [{one.lo:.4f}, {one.hi:.4f}]"


def _gap(one: Any) -> str:
    limits = f"[{one.lo:+.4f}, {one.hi:+.4f}]"
    return f"{one.value:+.4f} {limits}, p {one.p_value:.2g} ({one.test})"


def aims(found: list[Any], test: list[Any], images: int) -> bool:
    """Print the two aims in the form of `run_all.AIMS`; say whether both are met."""
    (area, other, gap), (test_area, test_other, test_gap) = found[1], test[1]
    reached = area.value >= BAR
    better = all(one.value > 0 and one.p_value < LEVEL for *_, one in found)
    print(
        f"chest-xray: AUROC {_told(area)} ({area.method}) out of fold, {images} images of "
        f"{gap.n_patients} patients; test edition {_told(test_area)} of {test_gap.n_patients} "
        f"patients; bar {BAR}: {'met' if reached else 'MISSED'}"
    )
    print(
        f"chest-xray-forest: out of fold better by {_gap(gap)} than the forest's {_told(other)}, "
        f"and on one image a patient by {_gap(found[0][2])}; on the test edition by "
        f"{_gap(test_gap)} than {_told(test_other)}; bar p below {LEVEL} in both out of fold: "
        f"{'met' if better else 'MISSED'}"
    )
    return reached and better


def main() -> int:
    """Prepare, train, judge; 1 when a bar is missed, 2 without data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # Beside other work a caller says fewer, as to anything else that counts its threads.
    threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--folds", default="", help="by commas; all unless said")
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args()
    if not asked.data.is_dir():
        print(f"no data at {asked.data}; give --data")
        return 2
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    import numpy as np
    import torch

    torch.set_num_threads(asked.threads)
    began = time.process_time()
    rows = prepared(asked.data)
    print(f"{len(rows['id'])} images, {len(set(rows['patient']))} patients, recipe of the scenario")
    there = sorted(set(rows["fold"].tolist()) - {-1})
    folds = [int(one) for one in asked.folds.split(",")] if asked.folds else there
    network, forest = by_network(rows, folds), by_forest(rows, folds)
    inside = np.isin(rows["fold"], folds)
    found = judged(rows, inside, network, forest, "out of fold")
    test = judged(rows, rows["fold"] < 0, network, forest, "test edition") if folds == there else []
    minutes = (time.process_time() - began) / 60
    print(f"{minutes:.1f} core minutes of this run")
    if folds != there:
        print(f"folds {asked.folds} of {len(there)}: no bar")
        return 0
    return int(not aims(found, test, int(inside.sum())))


if __name__ == "__main__":
    sys.exit(main())
