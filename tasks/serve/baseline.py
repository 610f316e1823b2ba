"""The chosen model beside the classical baseline: a paired test, and one sentence for people.

A network is worth its price only where it beats what measured features and a forest reach on the
same patients.  Both are judged out of fold, so that the test edition is spent on one model alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.evaluate.choose import choose_challenger
from tasks.evaluate.compare import Difference, holm, paired_primary
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.paired_calls import calls_columns, paired_calls
from tasks.serve.outcome import CandidateOutcome
from tasks.serve.verdict import GateConfig, Verdict


@dataclass(frozen=True)
class Baseline:
    """What is said of the classical baseline."""

    sentence: str
    beaten: bool
    """Whether the lower 97.5 % bound of the paired difference lies above 0."""
    itself: bool = False
    """Whether the chosen one is a classical one, which need not beat itself."""
    refused: bool = False
    """Whether the gate asks for a network that beats it, and so refuses the best of them."""
    rows: tuple[dict[str, Any], ...] = ()
    """One row a baseline: both figures out of fold, and their difference; of several baselines with
    Holm's p-values over them."""


def baselines(outcomes: Sequence[CandidateOutcome], config: EvaluateConfig) -> list[str]:
    """Return which candidates stand for the classical way: those named, else measured features.

    Without a network there is nothing that measured features would be the baseline of.
    """
    if config.baseline:
        return list(dict.fromkeys(config.baseline))
    learned = any(outcome.kind in ("network", "fusion") for outcome in outcomes)
    return [o.name for o in outcomes if learned and o.kind == "tabular"]


def beside_baseline(
    outcomes: Sequence[CandidateOutcome],
    chosen: str,
    config: EvaluateConfig,
    gate: GateConfig | None = None,
) -> Baseline | None:
    """Compare the chosen candidate with each classical one on the same patients, out of fold.

    Parameters
    ----------
    outcomes : sequence of CandidateOutcome
    chosen : str
        Name of the chosen one.
    config : EvaluateConfig
        With ``primary``, and ``baseline`` where the classical ones are named.
    gate : GateConfig, optional
        Whether it refuses a network that beats no baseline; without one it does not.

    Returns
    -------
    Baseline or None
        None where no candidate stands for the classical way.
    """
    names, metric = baselines(outcomes, config), config.primary
    if not names:
        return None
    by_name = {outcome.name: outcome for outcome in outcomes}
    best = choose_challenger({name: by_name[name].figures for name in names}, metric)
    if chosen in names:
        asked = gate is not None and gate.beat_baseline
        return _itself(by_name, chosen, names, config, asked=asked)
    ours = by_name[chosen]
    gaps = {name: _gap(ours, by_name[name], config) for name in names}
    adjusted = dict(zip(names, holm([gap.p_value for gap in gaps.values()]), strict=True))
    several = len(names) > 1
    rows = [
        {
            "chosen": chosen,
            f"{metric} of the chosen": ours.figures[metric],
            "classical": name,
            f"{metric} of the classical": by_name[name].figures[metric],
            "better by": (gap.value, gap.lo, gap.hi),
            "p": f"{gap.p_value:.3g}",
            **({"p (Holm)": f"{adjusted[name]:.3g}"} if several else {}),
            "test": gap.test,
            **calls,
        }
        for (name, gap), calls in zip(
            gaps.items(), _decisions(ours, [by_name[name] for name in names]), strict=True
        )
    ]
    gap, beaten = gaps[best], gaps[best].lo > 0
    verb = "beats" if beaten else "is not shown to beat"
    by_holm = f" ({adjusted[best]:.2g} by Holm over {len(names)} baselines)" if several else ""
    sentence = (
        f"Out of fold, {chosen} {verb} the classical baseline {best}: {metric} "
        f"{ours.figures[metric].value:.3f} against {by_name[best].figures[metric].value:.3f}, "
        f"better by {_told(gap, by_holm)}."
    )
    return Baseline(sentence, bool(beaten), rows=tuple(rows))


def _itself(
    by_name: Mapping[str, CandidateOutcome],
    chosen: str,
    names: Sequence[str],
    config: EvaluateConfig,
    *,
    asked: bool,
) -> Baseline:
    """Say that a classical one was chosen, and how far the best of the learned ones is from it."""
    metric, ours = config.primary, by_name[chosen]
    told = _words(ours.figures[metric], metric)
    first = f"The classical baseline {chosen} was chosen itself ({told}): nothing else did better."
    learned = [o for o in by_name.values() if o.name not in names and o.kind != "header"]
    if not learned:
        return Baseline(first, beaten=False, itself=True)
    best = by_name[choose_challenger({o.name: o.figures for o in learned}, metric)]
    gap = _gap(best, ours, config)
    # Refused is what the gate asks to be refused; else it is not shown to be better, and no more.
    lacks = "is refused, because it is not" if asked else "is not"
    second = (
        f" {best.name} {lacks} shown to beat it: {metric} "
        f"{best.figures[metric].value:.3f} against {ours.figures[metric].value:.3f} out of fold, "
        f"difference {_told(gap)}."
    )
    return Baseline(first + second, beaten=False, itself=True, refused=asked)


def _gap(ours: CandidateOutcome, theirs: CandidateOutcome, config: EvaluateConfig) -> Difference:
    thresholds = ours.threshold, theirs.threshold
    return paired_primary(ours.scores, theirs.scores, thresholds, config)


def _decisions(
    ours: CandidateOutcome, classical: Sequence[CandidateOutcome]
) -> list[dict[str, str]]:
    found = [
        paired_calls(ours.scores, one.scores, (ours.threshold, one.threshold)) for one in classical
    ]
    return calls_columns(found, "the chosen", "the classical", adjust=len(found) > 1)


def _told(gap: Difference, by_holm: str = "") -> str:
    return (
        f"{gap.value:+.3f} (95 % interval {gap.lo:+.3f} to {gap.hi:+.3f}, {gap.test}, "
        f"p {gap.p_value:.2g}{by_holm}, {gap.n_patients} patients)"
    )


def held_against(verdict: Verdict, config: GateConfig, found: Baseline | None) -> Verdict:
    """Refuse what is not shown to beat the classical baseline, where the gate asks for that.

    A classical one that was chosen itself stays with what the gate said: the network is refused.
    """
    if not config.beat_baseline or (found is not None and (found.beaten or found.itself)):
        return verdict
    why = found.sentence if found else "no candidate stands for the classical way."
    return replace(verdict, verdict="refuse", action="refuse", reason=f"Refused: {why}")


def _words(figure: Any, metric: str) -> str:
    return f"{metric} {figure.value:.3f} [{figure.lo:.3f}, {figure.hi:.3f}]"
