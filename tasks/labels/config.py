"""How a scenario's labels are found; light to import."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from tasks.hashing import digest_json

Join = Literal["accession", "study", "series", "sop", "patient", "case"]


PUBLIC: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "mura": {"join": "accession", "classes": ("normal", "abnormal"), "positive": "abnormal"},
        "fracatlas": {
            "join": "accession",
            "classes": ("normal", "fracture"),
            "positive": "fracture",
        },
        "grazpedwri": {
            "join": "accession",
            "classes": ("normal", "fracture"),
            "positive": "fracture",
        },
        "rsna_pneumonia": {
            "join": "patient",
            "classes": ("no_opacity", "opacity"),
            "positive": "opacity",
        },
    }
)
"""Formats of public data sets, and what follows from each; docs/labels.md describes them."""

JOINED = ("table", *PUBLIC)
"""Formats whose labels an ingest joins with the cases."""


class LabelConfig(BaseModel):
    """Format and place of labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[
        "table", "decathlon", "column", "mura", "fracatlas", "grazpedwri", "rsna_pneumonia"
    ]
    """A table of its own, the masks of a Decathlon folder, a column of the cases' table, or the
    tables of a public data set, which need no other key."""
    file: str | None = None
    """CSV, TSV or Parquet file, relative to the source (in an archive: a member), or absolute."""
    join: Join | None = None
    """What a row of the table speaks about."""
    column: str | None = None
    """Column with the value."""
    classes: tuple[str, ...] = ()
    """Values that count; a row with another one is listed and left out, in this order elsewhere."""
    positive: str | None = None
    """Of the classes, the finding that is looked for."""
    key_column: str | None = None
    """Column with the key; by default one with a usual name such as accession_number."""
    issuer: str | None = None
    """For join patient: who gave the ids, when the headers name an issuer."""

    @model_validator(mode="before")
    @classmethod
    def _public(cls, values: Any) -> Any:
        """Fill in what follows from the format of a public data set."""
        known = PUBLIC.get(str(values.get("format"))) if isinstance(values, Mapping) else None
        if known is None:
            return values
        fixed = [name for name in ("file", "column", "key_column") if values.get(name)]
        fixed += [name for name in ("join",) if values.get(name) not in (None, known[name])]
        if fixed:
            raise ValueError(
                f"labels of format {values['format']!r} know their {fixed[0]} themselves: leave "
                "it out, or use format table"
            )
        return {**known, **values}

    @model_validator(mode="after")
    def _complete(self) -> "LabelConfig":
        needed = {"table": ("file", "join", "column", "classes"), "column": ("column",)}
        missing = [name for name in needed.get(self.format, ()) if not getattr(self, name)]
        if missing:
            raise ValueError(f"labels of format {self.format!r} need {', '.join(missing)}")
        return self


def label_set_name(config: LabelConfig) -> str:
    """Return what the label set of a scenario is called in the catalog.

    Two scenarios that read other columns, joins or classes of one file have sets of their own; the
    file's place, which may hold a name, is hashed.
    """
    if config.format == "decathlon":
        return "decathlon"
    place = [config.file, config.join, config.key_column, config.issuer, config.column]
    return f"{config.format}-{digest_json([*place, list(config.classes)])[:12]}"
