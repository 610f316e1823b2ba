"""The model card (Markdown, JSON) and the self-contained report of one training."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tasks.serve.numbers import NOT_MEASURED, as_interval, show_interval, show_number
from tasks.serve.pages import page_environment

RESEARCH_USE_ONLY = "research use only"
"""Status of every model until a person changes it."""

SYNTHETIC_BANNER = "SYNTHETIC DATA: figures say nothing about patients"

SIDES = {
    "challenger": "Challenger",
    "champion": "Champion so far",
    "other tool": "Other tool",
    "fused": "Fused pairs",
}
"""Headings of the columns of test figures."""

CARD_MD = "card.md"
CARD_JSON = "card.json"
REPORT_HTML = "report.html"

HEADLINE_METRICS = (
    "auroc",
    "recall",
    "specificity",
    "accuracy",
    "brier",
    "ece",
    "dice",
    "nsd",
    "hd95",
    "mae",
    "rmse",
    "r2",
    "spearman",
    "bias",
)
"""Columns of the candidates' table, in this order, as far as any candidate has them."""

SHOWN = {
    "auroc": "AUROC",
    "f1": "F1",
    "precision": "precision (PPV)",
    "npv": "NPV",
    "mcc": "MCC",
    "brier": "Brier score",
    "ece": "ECE",
    "dice": "Dice",
    "nsd": "NSD",
    "hd95": "HD95 (mm)",
    "volume_error": "volume error (mL)",
    "volume_bias": "volume bias (mL)",
    "lesion_dice": "Dice, lesion by lesion",
    "lesion_hd95": "HD95, lesion by lesion (mm)",
    "empty_share": "share with an empty mask",
    "cpm": "CPM",
    "ap": "AP",
    "false_alarms": "false alarms a scan",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    "spearman": "Spearman",
    "loa_lower": "lower limit of agreement",
    "loa_upper": "upper limit of agreement",
}
"""Names of metrics for people, where the name without its underscores would not do."""


@dataclass(frozen=True)
class ReportFacts:
    """Everything a card or report may say; what is None is shown as "not measured".

    A figure with an interval is a number, ``(value, lo, hi)``, a mapping with these keys or an
    object with these fields. Metric names are short (``auroc``, ``dice/anterior``).

    Parameters
    ----------
    scenario, title, task : str
    created : str
        ISO time of the training.
    status : str
        `RESEARCH_USE_ONLY` until a person changes it; ``status_by`` then names who and when.
    synthetic : bool
    header_sentence : str, optional
        Opens the report when the header-only model is as good as the image model.
    intended_use, not_for, population : str, optional
    funnel : sequence of (text, n), optional
        The cohort, step by step.
    split : mapping, optional
        side -> ``{"patients": n, "cases": n, "classes": {class: n}}``.
    edition : mapping, optional
        ``number``, ``patients``, ``uses`` (how often the test edition was used, now included).
    primary : str, optional
        The metric that chose.
    candidates : sequence of mappings, optional
        ``name``, ``kind``, ``chosen`` (bool), ``metrics`` {metric: figure} from cross-validation,
        optionally ``run_id`` and ``note``.
    trials : sequence of mappings, optional
        Rows of what searches tried, all with the same keys.
    fusions : sequence of mappings, optional
        Rows of each fusion beside its members, all with the same keys.
    judged : str, optional
        What figures are of, where it is not single cases.
    baseline : str, optional
        Whether the chosen candidate beats the classical baseline, in a sentence.
    baselines : sequence of mappings, optional
        Rows of the chosen candidate beside each classical one, all with the same keys.
    test : mapping, optional
        ``challenger`` and ``champion``, or whoever was scored: {metric: figure} or None.
    gate : mapping, optional
        ``verdict``, ``reason``, ``estimate``, ``lo``, ``hi``, ``margin``, ``needed_patients``,
        ``power``.
    operating_point : mapping, optional
        Text or number by name, such as ``rule``, ``threshold``, ``chosen on``.
    subgroups : sequence of mappings, optional
        Rows of one table, all with the same keys.
    sections : mapping, optional
        Heading -> rows of one table, all with the same keys: what a registered model was asked
        beyond its figures.
    figures : sequence of mappings, optional
        ``path`` of a PNG, ``title``, ``caption``.
    model : mapping, optional
        ``name``, ``version``, ``digest``, ``parameters`` and whatever else identifies it.
    hashes : mapping, optional
        data, split, label, recipe, scenario, code.
    recipe : sequence of str, optional
        One line a step.
    checks : sequence of str, optional
        What was looked for so that nothing of the test side could leak into the training.
    warnings, next_steps : sequence of str
    """

    scenario: str
    title: str
    task: str
    created: str
    status: str = RESEARCH_USE_ONLY
    status_by: str | None = None
    synthetic: bool = False
    header_sentence: str | None = None
    intended_use: str | None = None
    not_for: str | None = None
    population: str | None = None
    funnel: tuple[tuple[str, int], ...] | None = None
    split: Mapping[str, Mapping[str, Any]] | None = None
    edition: Mapping[str, Any] | None = None
    primary: str | None = None
    candidates: tuple[Mapping[str, Any], ...] | None = None
    trials: tuple[Mapping[str, Any], ...] = ()
    fusions: tuple[Mapping[str, Any], ...] = ()
    judged: str | None = None
    baseline: str | None = None
    baselines: tuple[Mapping[str, Any], ...] = ()
    test: Mapping[str, Mapping[str, Any] | None] | None = None
    gate: Mapping[str, Any] | None = None
    operating_point: Mapping[str, Any] | None = None
    subgroups: tuple[Mapping[str, Any], ...] | None = None
    sections: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    figures: tuple[Mapping[str, Any], ...] = ()
    model: Mapping[str, Any] | None = None
    hashes: Mapping[str, Any] | None = None
    recipe: tuple[str, ...] | None = None
    checks: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = field(default=())


def write_card(folder: str | Path, facts: ReportFacts) -> tuple[Path, Path]:
    """Write ``card.md`` and ``card.json`` into a folder (the model's) and return both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    markdown, as_json = folder / CARD_MD, folder / CARD_JSON
    markdown.write_text(_render("card.md.j2", facts), encoding="utf-8")
    as_json.write_text(
        json.dumps(card_facts(facts), indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    return markdown, as_json


def write_report(path: str | Path, facts: ReportFacts) -> Path:
    """Write the one-file report: its pictures are inside and it asks for nothing from outside.

    Raises
    ------
    FileNotFoundError
        When a figure is not where the facts say.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_render("report.html.j2", facts), encoding="utf-8")
    return path


def card_facts(facts: ReportFacts) -> dict[str, Any]:
    """Return the facts as plain JSON: intervals as value, lo, hi; figures without their folder."""
    body = {one.name: getattr(facts, one.name) for one in fields(facts)}
    body["figures"] = [{**figure, "path": Path(figure["path"]).name} for figure in facts.figures]
    return _plain({name: NOT_MEASURED if v is None else v for name, v in body.items()})


def _plain(value: Any) -> Any:
    if hasattr(value, "lo") and hasattr(value, "hi"):
        middle, low, high = as_interval(value) or (None, None, None)
        return {"value": middle, "lo": low, "hi": high}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return as_interval(value)[0] if as_interval(value) else None  # NaN is not JSON
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def _render(template: str, facts: ReportFacts) -> str:
    environment = page_environment()
    environment.filters.update(
        figure=show_interval,
        number=show_number,
        said=lambda text: text if text not in (None, "") else NOT_MEASURED,
        metric=show_metric,
        inline=_inline,
        cell=lambda text: str(text).replace("|", "\\|").replace("\n", " "),
    )
    environment.globals.update(NOT_MEASURED=NOT_MEASURED, SYNTHETIC=SYNTHETIC_BANNER, SIDES=SIDES)
    return environment.get_template(template).render(
        f=facts,
        research_only=facts.status == RESEARCH_USE_ONLY,
        columns=_columns(facts),
        sides=_sides(facts),
        test_metrics=list(dict.fromkeys(n for side in _sides(facts).values() for n in side)),
        classes=_classes(facts),
        forest=_forest(facts),
        verdict=(facts.gate or {}).get("verdict"),
    )


def show_metric(name: str) -> str:
    """Return a metric's name for people: ``average precision``, ``AUROC``, ``Dice, anterior``."""
    short, _, of = name.partition("/")
    if of and short == "froc":
        return f"sensitivity at {of} false alarms a scan"
    if of and short == "ap":
        return "AP, centre hit" if of == "centre" else f"AP at overlap {of}"
    shown = SHOWN.get(short, short.replace("_", " "))
    return f"{shown}, {of}" if of else shown


def _columns(facts: ReportFacts) -> list[str]:
    present = {name for one in facts.candidates or () for name in one.get("metrics") or {}}
    first = [facts.primary] if facts.primary in present else []
    return first + [name for name in HEADLINE_METRICS if name in present and name not in first]


def _sides(facts: ReportFacts) -> dict[str, Mapping[str, Any]]:
    """Return who was scored; without a champion a column of its figures would say nothing."""
    return {name: figures for name, figures in (facts.test or {}).items() if figures}


def _classes(facts: ReportFacts) -> list[str]:
    sides = (facts.split or {}).values()
    return list(dict.fromkeys(name for side in sides for name in side.get("classes") or {}))


def _forest(facts: ReportFacts) -> list[dict[str, Any]]:
    """Return where each candidate's interval of the primary metric lies, in percent of an axis."""
    rows = []
    for one in facts.candidates or ():
        interval = as_interval((one.get("metrics") or {}).get(facts.primary))
        if interval is not None:
            middle, low, high = interval
            ends = (middle if low is None else low, middle if high is None else high)
            rows.append({"name": one["name"], "chosen": one.get("chosen"), "at": (middle, *ends)})
    if not rows:
        return []
    start = min(row["at"][1] for row in rows)
    stop = max(row["at"][2] for row in rows)
    width = (stop - start) or 1.0
    for row in rows:
        row["percent"] = [round(100 * (part - start) / width, 2) for part in row["at"]]
        row["axis"] = (start, stop)
    return rows


def _inline(path: str | Path) -> str:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The figure {path.name!r} of the report does not exist.")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
