"""The demo's late fusion of ultrasound and table: invented pairs, and a page that says so first."""

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.console import heading
from flows.evidence import tracker_for
from flows.home import Home
from tasks.evaluate.calibrate import choose_threshold
from tasks.evaluate.compare import holm, paired_metric
from tasks.evaluate.config import OperatingPoint
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.table import metric_table
from tasks.learn.pairing import fuse_pairs, pair_by_class
from tasks.serve.card import ReportFacts, write_report
from tasks.serve.tracking import children_of, client_of

SEED = 7
METRIC = "auroc"
FIND = OperatingPoint(rule="sensitivity", at_least=0.95)

WARNING = (
    "SYNTHETIC PAIRING: drawn ultrasound of nobody stands beside rows of real patients, put "
    "together at random within each class. No person has both. Given the class the two are "
    "independent, which findings of one tumour are not, so a fusion gains more here than it would "
    "on patients: the page shows how the two are fused and says nothing of what that is worth."
)


def fuse_paired(home: Home, trained: Mapping[str, Mapping[str, Any]]) -> Path:
    """Fuse what the chosen candidates of several trainings say of invented pairs of patients.

    Parameters
    ----------
    home : Home
    trained : mapping of scenario to what its training returned

    Returns
    -------
    Path
        The page.
    """
    heading("late fusion of ultrasound and table (SYNTHETIC PAIRING, no person has both)")
    sides = {
        side: pair_by_class({n: _cases(home, n, found, side) for n, found in trained.items()}, SEED)
        for side in ("oof", "test")
    }
    learnt, fused = fuse_pairs(sides["oof"], sides["test"])
    threshold = choose_threshold(learnt.truth, learnt.score, FIND, side="oof")
    rows = _beside(fused, sides["test"])
    for row in rows:
        better = row["better by"]
        print(
            f"  fused {row['fused'].value:.3f}, {row['alone']} {row['alone figure'].value:.3f}: "
            f"{better[0]:+.3f} [{better[1]:+.3f}, {better[2]:+.3f}], p {row['p (Holm)']}"
        )
    kept = home.settings.home / "reports" / "breast-fusion" / "synthetic-pairing.html"
    write_report(kept, _facts(fused, threshold, rows, len(learnt)))
    print(f"page      {kept}")
    return kept


def _cases(home: Home, scenario: str, found: Mapping[str, Any], side: str) -> Predictions:
    """Return what the chosen candidate said of a side, from the training's run."""
    tracker = tracker_for(home, scenario)
    run = found["run_id"]
    if side == "oof":
        client = client_of(tracker)
        children = children_of(tracker, run, "candidate")
        (run,) = (one for one in children if client.get_run(one).info.run_name == found["chosen"])
    with tempfile.TemporaryDirectory() as scratch:
        path = client_of(tracker).download_artifacts(run, f"tables/{side}_cases.json", scratch)
        return Predictions.from_table(json.loads(Path(path).read_text()))


def _beside(fused: Predictions, alone: Mapping[str, Predictions]) -> list[dict[str, Any]]:
    """Return a row a member: both figures of the test pairs, and their paired difference."""
    gaps = {name: paired_metric(fused, one, METRIC, seed=SEED) for name, one in alone.items()}
    figure = metric_table(fused, None, seed=SEED)[METRIC]
    return [
        {
            "fused": figure,
            "alone": name,
            "alone figure": metric_table(alone[name], None, seed=SEED)[METRIC],
            "better by": (gap.value, gap.lo, gap.hi),
            "p (Holm)": f"{p:.2g}",
            "test": gap.test,
        }
        for (name, gap), p in zip(
            gaps.items(), holm([gap.p_value for gap in gaps.values()]), strict=True
        )
    ]


def _facts(
    fused: Predictions, threshold: float, rows: list[dict[str, Any]], learnt: int
) -> ReportFacts:
    return ReportFacts(
        scenario="breast-fusion",
        title="Late fusion of synthetic breast ultrasound and the Wisconsin table",
        task="classification",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        synthetic=True,
        header_sentence=WARNING,
        intended_use="Demonstration only: how two models become one. Research use only.",
        not_for="Anything else. Nothing was registered, and no patient can be judged by it.",
        population=f"Nobody: {learnt} invented pairs to learn weights on, {len(fused)} to test.",
        primary=METRIC,
        test={"fused": metric_table(fused, threshold, seed=SEED)},
        operating_point={
            "rule": FIND.rule,
            "at least": FIND.at_least,
            "threshold": threshold,
            "chosen on": "invented pairs of the training sides, out of fold",
        },
        sections={f"Fused and alone, {METRIC} of the same test pairs": rows},
    )
