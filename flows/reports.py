"""Small records to Prefect artifacts: tables, sentences and links beside the run that made them."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact


def table(key: str, rows: Iterable[Mapping[str, Any]], description: str = "") -> None:
    """Publish rows as a table artifact.

    Parameters
    ----------
    key : str
        Turned into lower-case letters, digits and dashes, which is all Prefect allows.
    rows : iterable of mapping
        Numbers, texts and None; numpy scalars become Python's.
    """
    create_table_artifact(
        key=_key(key), table=[_plain(row) for row in rows], description=description
    )


def text(key: str, markdown: str) -> None:
    """Publish a text in Markdown."""
    create_markdown_artifact(key=_key(key), markdown=markdown)


def link(key: str, url: str, label: str) -> None:
    """Publish a link."""
    create_link_artifact(key=_key(key), link=url, link_text=label)


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _scalar(value) for name, value in row.items()}


def _scalar(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
