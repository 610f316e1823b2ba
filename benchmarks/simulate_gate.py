"""Does the gate keep its promises? Thousands of pairs with a known truth, run through `decide`.

    python benchmarks/simulate_gate.py [--pairs 1000] [--seed 0]

A challenger worse by exactly the margin may be promoted in at most 2.5 % of the pairs, up to the
error of the simulation itself; an equal one about as often as the printed power says.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, mean

import numpy as np

from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.serve.gate import GateConfig, Scored, decide

PROMISE = 0.025
"""Share of challengers worse by the margin that may pass."""

SIMULATION_ERRORS = 3.0
"""Standard errors granted to the simulation."""


@dataclass(frozen=True)
class Setting:
    """One row of the table: what is compared, on how many patients, how good the champion is."""

    name: str
    patients: int
    margin: float
    level: float
    draw: Callable
    replicates: int = 200


@dataclass(frozen=True)
class Row:
    """What came out: shares promoted when worse by the margin and when equal, printed power."""

    setting: Setting
    worse_promoted: float
    equal_promoted: float
    printed_power: float


def draw_auroc(rng, setting: Setting, loss: float, cases: int = 1):
    """Draw binormal scores of two models with known AUROCs and correlated errors.

    With several cases a patient, half of each error is the patient's own.
    """
    n = setting.patients * cases
    patient = np.repeat(np.arange(setting.patients), cases)
    truth = (np.arange(setting.patients) % 5 < 2).astype(int)[patient]

    def noise() -> np.ndarray:
        own = rng.normal(size=setting.patients)[patient]
        return sqrt(0.5) * own + sqrt(0.5) * rng.normal(size=n) if cases > 1 else own

    shared, scores = noise(), []
    for area in (setting.level, setting.level - loss):
        gap = sqrt(2) * NormalDist().inv_cdf(area)
        error = sqrt(0.7) * shared + sqrt(0.3) * noise()
        scores.append(1 / (1 + np.exp(-(error + gap * truth))))
    ids = [f"c{i}" for i in range(n)]
    keys = [f"p{i}" for i in patient]
    return [
        Predictions(ids, keys, truth, np.stack([1 - s, s], 1), ("normal", "finding"))
        for s in scores
    ]


def draw_clustered(rng, setting: Setting, loss: float):
    """Draw three cases a patient."""
    return draw_auroc(rng, setting, loss, cases=3)


def draw_dice(rng, setting: Setting, loss: float):
    """Draw Dice of two models: beta, skewed towards failures, the difficulty of a case shared.

    The expected Dice are exactly `level` and `level - loss`.
    """
    n = setting.patients
    difficulty = rng.beta(12, 2, size=n) - 12 / 14
    ids, keys = [f"c{i}" for i in range(n)], [f"p{i}" for i in range(n)]
    out = []
    for level in (setting.level, setting.level - loss):
        own = 0.4 * (rng.beta(12, 2, size=n) - 12 / 14)
        dice = level + 0.3 * difficulty + own
        out.append(MaskScores(ids, keys, ("organ",), np.clip(dice, 0, 1)[:, None]))
    return out


SETTINGS = (
    Setting("auroc", 200, 0.05, 0.85, draw_auroc),
    Setting("auroc", 600, 0.02, 0.85, draw_auroc),
    Setting("auroc", 140, 0.02, 0.96, draw_auroc),
    Setting("auroc", 600, 0.02, 0.95, draw_auroc),
    Setting("auroc near 1", 60, 0.02, 0.99, draw_auroc),
    Setting("auroc near 1", 300, 0.02, 0.99, draw_auroc),
    Setting("auroc, 3 cases a patient", 200, 0.05, 0.85, draw_clustered),
    Setting("dice", 12, 0.02, 0.86, draw_dice),
    Setting("dice", 50, 0.01, 0.86, draw_dice),
    Setting("dice", 200, 0.005, 0.86, draw_dice),
)


def simulate(setting: Setting, pairs: int, seed: int) -> Row:
    """Run the gate on `pairs` worse and `pairs` equal challengers."""
    config = GateConfig(margin=setting.margin, bootstrap=setting.replicates)
    rng = np.random.default_rng(seed)
    promoted = {}
    power = []
    for name, loss in (("worse", setting.margin), ("equal", 0.0)):
        count = 0
        for _ in range(pairs):
            champion, challenger = setting.draw(rng, setting, loss)
            verdict = decide(Scored(champion, "1"), Scored(challenger, "1"), config)
            count += verdict.verdict == "promote"
            if name == "equal":
                power.append(verdict.power)
        promoted[name] = count / pairs
    return Row(setting, promoted["worse"], promoted["equal"], mean(power))


def limit(pairs: int) -> float:
    """Return the share above which the promise is broken beyond the simulation's own error."""
    return PROMISE + SIMULATION_ERRORS * sqrt(PROMISE * (1 - PROMISE) / pairs)


def main() -> int:
    """Print the table; exit code 1 when a row breaks the promise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        f"{options.pairs} pairs a row; at most {PROMISE:.1%} may pass, "
        f"with the simulation's own error {limit(options.pairs):.1%}"
    )
    head = f"{'compared':26s}{'patients':>9s}{'champion':>9s}{'margin':>8s}"
    print(head + f"{'worse promoted':>16s}{'equal promoted':>16s}{'printed power':>15s}")
    broken = 0
    for setting in SETTINGS:
        row = simulate(setting, options.pairs, options.seed)
        broken += row.worse_promoted > limit(options.pairs)
        print(
            f"{setting.name:26s}{setting.patients:9d}{setting.level:9.3f}{setting.margin:8.3f}"
            f"{row.worse_promoted:16.1%}{row.equal_promoted:16.1%}{row.printed_power:15.1%}",
            flush=True,
        )
    print("every row keeps the promise" if not broken else f"{broken} rows break the promise")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
