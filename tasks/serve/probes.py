"""What a scored model is asked beyond its figures, as the report and MLflow want it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.decision import decision_curve, decision_sentence, draw_decision_curve
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions


@dataclass(frozen=True)
class Probe:
    """What a probe found.

    Parameters
    ----------
    figures : tuple of mappings
        Pictures, as the report wants them.
    tables : mapping of name to rows
        Written to MLflow under the name.
    sections : mapping of heading to rows
        Shown in the report and the card: texts, and figures with their intervals.
    """

    figures: tuple[Mapping[str, str], ...] = ()
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    sections: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)


def tables_of(probes: Sequence[Probe]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return the tables of several probes by name."""
    return {name: rows for probe in probes for name, rows in probe.tables.items()}


def sections_of(probes: Sequence[Probe]) -> dict[str, tuple[Mapping[str, Any], ...]]:
    """Return the sections of several probes by heading."""
    return {name: rows for probe in probes for name, rows in probe.sections.items()}


def worth(
    folder: Path,
    scores: Predictions | MaskScores | FindingScores | Estimates,
    threshold: float | None,
    config: EvaluateConfig,
    title: str,
) -> Probe:
    """Return the decision curve of a model of two classes; nothing of any other."""
    if not isinstance(scores, Predictions) or not scores.binary:
        return Probe()
    curve = decision_curve(scores, replicates=config.bootstrap, seed=config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    path = draw_decision_curve(
        folder / "test-decision.png", scores, curve, threshold=threshold, title=title
    )
    caption = (
        f"{decision_sentence(curve)} A threshold p means that a missed finding is held to be "
        "(1 - p) / p times as bad as a false alarm; 95 % limits, threshold by threshold."
    )
    figure = {"path": str(path), "title": "Decision curve, test", "caption": caption}
    return Probe((figure,), {"decision_curve": curve.to_rows()})
