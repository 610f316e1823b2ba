"""How a demonstration ended: a champion that beats both, or why something was refused."""

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
    """
    if "chosen" not in trained:
        # It was sent to the work pool of the GPU and has not ended here.
        return []
    name, reason = trained["chosen"], trained["reason"]
    if trained["action"] != "promote":
        return [f"refused, because {reason.partition(': ')[2] or reason}"]
    passed = f"{name} is champion by the policy minimum: {reason}"
    if trained.get("is_baseline"):
        return [trained["baseline"], f"{passed} It is the classical way, not a network."]
    sentence, beaten = _classical(trained, threshold)
    if sentence is None:
        return [passed, "no classical baseline stands beside it"]
    if beaten:
        return [f"champion {name} beats the policy minimum and the classical baseline", sentence]
    return [passed, f"but the classical baseline is not shown to be beaten: {sentence}"]


def _classical(
    trained: Mapping[str, Any], threshold: BesideThreshold | None
) -> tuple[str | None, bool]:
    if threshold is not None:
        return threshold.sentence, threshold.beaten
    return trained.get("baseline"), bool(trained.get("beats_baseline"))
