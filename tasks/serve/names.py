"""The table of names radloop may write to MLflow; light to import (no mlflow)."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

INTERVAL_SUFFIXES = ("_lo", "_hi")
"""Ends of the two bounds of a metric's 95 % interval."""

RESERVED_TAG_PREFIX = "mlflow."
"""Tags under this prefix are MLflow's own (parent run, run name, note) and are not in the table."""

_WORD = r"[a-z0-9][a-z0-9_.\-]*"
_PLACEHOLDER = re.compile(r"<[a-z_]+>")
_NOT_IN_A_WORD = re.compile(r"[^a-z0-9_.\-]+")


@dataclass(frozen=True)
class NameTable:
    """Names of experiments, tags, parameters, metrics and aliases, with what each means."""

    experiments: Mapping[str, str]
    aliases: Mapping[str, str]
    kinds: Mapping[str, str]
    tags: Mapping[str, str]
    params: Mapping[str, str]
    sides: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, str]]
    epoch_metrics: Mapping[str, Mapping[str, str]]
    metrics_per_run: int
    where: str = field(default="mlflow/names.yaml", compare=False)

    def check_metric(self, name: str) -> str:
        """Return the name, or raise ValueError when it is neither a figure nor a curve."""
        if name in self.epoch_metrics or self._is_figure(name):
            return name
        known = [*self.epoch_metrics, *(f"{s}/{m}" for s in self.sides for m in self.metrics)]
        raise self._refusal("metric", name, known)

    def check_tag(self, name: str) -> str:
        """Return the name, or raise ValueError; MLflow's own ``mlflow.*`` tags pass."""
        if name.startswith(RESERVED_TAG_PREFIX):
            return name
        return self._check("tag", name, self.tags)

    def check_param(self, name: str) -> str:
        """Return the name, or raise ValueError."""
        return self._check("parameter", name, self.params)

    def check_alias(self, name: str) -> str:
        """Return the name, or raise ValueError."""
        return self._check("alias", name, self.aliases)

    def check_kind(self, name: str) -> str:
        """Return the kind of run, or raise ValueError."""
        return self._check("kind of run", name, self.kinds)

    def check_experiment(self, name: str) -> str:
        """Return the name, or raise ValueError."""
        return self._check("experiment", name, self.experiments)

    def check_count(self, names: Iterable[str]) -> None:
        """Raise ValueError when a run would hold more metrics than the table allows."""
        count = len(set(names))
        if count > self.metrics_per_run:
            raise ValueError(
                f"A run would hold {count} metrics and the limit of {self.where} is "
                f"{self.metrics_per_run}: write per-case and subgroup figures as a table."
            )

    def better(self, metric: str) -> str:
        """Return ``"higher"``, ``"lower"`` or ``"none"`` for a full or short metric name."""
        if metric in self.epoch_metrics:
            return str(self.epoch_metrics[metric]["better"])
        parts = metric.split("/")
        short = parts[1] if len(parts) > 1 and parts[0] in self.sides else parts[0]
        if short not in self.metrics:
            self.check_metric(metric)
        return str(self.metrics[short]["better"])

    def _is_figure(self, name: str) -> bool:
        side, _, rest = name.partition("/")
        metric, _, of_class = rest.partition("/")
        if side not in self.sides:
            return False
        if of_class:
            return metric in self.metrics and re.fullmatch(_WORD, of_class) is not None
        return rest in self.metrics or (
            rest.endswith(INTERVAL_SUFFIXES) and rest[:-3] in self.metrics
        )

    def _check(self, what: str, name: str, table: Mapping[str, str]) -> str:
        for pattern in table:
            if name == pattern or re.fullmatch(_as_expression(pattern), name):
                return name
        raise self._refusal(what, name, table)

    def _refusal(self, what: str, name: str, known: Iterable[str]) -> ValueError:
        near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
        return ValueError(
            f"The {what} name {name!r} is not in {self.where}; the nearest is {near[0]!r}: "
            "use that one or add a line to the table."
        )


def metric_name(side: str, metric: str, of_class: str | None = None) -> str:
    """Return ``<side>/<metric>[/<class>]`` with the class made a word.

    A class called ``Left Hippocampus`` becomes ``left_hippocampus``.
    """
    if of_class is None:
        return f"{side}/{metric}"
    word = _NOT_IN_A_WORD.sub("_", of_class.lower()).strip("_.-")
    if not word:
        raise ValueError(
            f"The class {of_class!r} has no letter or digit that a metric name allows."
        )
    return f"{side}/{metric}/{word}"


def load_names(path: str | Path | None = None) -> NameTable:
    """Read the table.

    Parameters
    ----------
    path : str or Path, optional
        A table elsewhere. By default the one inside the installed wheel
        (``flows/_data/mlflow/names.yaml``), else the checkout's ``mlflow/names.yaml``.

    Raises
    ------
    FileNotFoundError
        When there is no table at any of these places.
    ValueError
        When the table lacks a section.
    """
    text, where = _read(path)
    body: dict[str, Any] = yaml.safe_load(text)
    try:
        return NameTable(
            experiments=body["experiments"],
            aliases=body["aliases"],
            kinds=body["kinds"],
            tags=body["tags"],
            params=body["params"],
            sides=body["sides"],
            metrics=body["metrics"],
            epoch_metrics=body["epoch_metrics"],
            metrics_per_run=int(body["limits"]["metrics_per_run"]),
            where=where,
        )
    except KeyError as error:
        raise ValueError(f"The table of names {where} lacks the section {error}.") from error


def _read(path: str | Path | None) -> tuple[str, str]:
    if path is not None:
        return Path(path).read_text(encoding="utf-8"), str(path)
    packaged = resources.files("flows").joinpath("_data", "mlflow", "names.yaml")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8"), "mlflow/names.yaml"
    checkout = Path(__file__).resolve().parents[2] / "mlflow" / "names.yaml"
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8"), "mlflow/names.yaml"
    raise FileNotFoundError(
        "mlflow/names.yaml is neither in the installed package nor beside the checkout: "
        "install radloop again."
    )


def _as_expression(pattern: str) -> str:
    """Return the regular expression of a table line such as ``candidate/<name>``."""
    pieces = _PLACEHOLDER.split(pattern)
    return _WORD.join(re.escape(piece) for piece in pieces)
