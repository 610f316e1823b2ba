"""How a demonstration ended: a champion that beats both, or why something was refused.

The gate may have let a model pass that is no demonstration, since not every scenario's gate asks
for the classical baseline to be beaten. Then the demonstration refuses it, and says that it does.
"""

from collections.abc import Mapping
from typing import Any

from flows.demo_threshold import BesideThreshold


def told_verdict(trained: Mapping[str, Any], threshold: BesideThreshold | None) -> list[str]:
    """Return the lines that close a scenario of the demonstration.

    Parameters
    ----------
    trained : mapping
        What `flows.promote.decide_and_register` found.
    threshold : BesideThreshold, optional
        Of masks, the champion beside a threshold.

    Returns
    -------
    list of str
        Among them a champion that beats policy minimum and classical baseline, or, as the last
        one, what is refused and why; that there is no classical baseline, where a demonstration has
        none. Empty where the training has not ended here.
    """
    if "chosen" not in trained:
        # It was sent to the work pool of the GPU and has not ended here.
        return []
    name, reason = trained["chosen"], trained["reason"]
    if trained["action"] != "promote":
        why = reason.partition(": ")[2] or reason
        # Where a person has to decide, the gate has refused nothing.
        return [f"refused, because {why}" if trained["action"] == "refuse" else _as_shown(why)]
    passed = f"{name} is champion by the policy minimum: {reason}"
    if trained.get("is_baseline"):
        sentence = trained["baseline"]
        refused = sentence if trained.get("network_refused") else _as_shown(sentence)
        return [f"{passed} It is the classical way, not a network.", refused]
    sentence, beaten = _classical(trained, threshold)
    if sentence is None:
        return [passed, "no classical baseline stands beside it"]
    if beaten:
        return [f"champion {name} beats the policy minimum and the classical baseline", sentence]
    return [passed, _as_shown(sentence)]


def _as_shown(why: str) -> str:
    """Refuse what the gate did not refuse: it is champion, or may be, and no demonstration."""
    return f"refused as a demonstration, because {why[:1].lower()}{why[1:]}"


def _classical(
    trained: Mapping[str, Any], threshold: BesideThreshold | None
) -> tuple[str | None, bool]:
    if threshold is not None:
        return threshold.sentence, threshold.beaten
    return trained.get("baseline"), bool(trained.get("beats_baseline"))
