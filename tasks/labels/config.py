"""How a scenario's labels are found; light to import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from tasks.hashing import digest_json

Join = Literal["accession", "study", "series", "sop", "patient", "case"]


class LabelConfig(BaseModel):
    """Format and place of labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["table", "decathlon", "column"]
    """A table of its own, the masks of a Decathlon folder, or a column of the cases' table."""
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
