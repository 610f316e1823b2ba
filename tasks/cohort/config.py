"""Which cases a scenario is about, as its file says; light to import."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from tasks.archive.choice import parse_choice
from tasks.archive.kept import KEPT_FIELDS
from tasks.cohort.channels import Align, ChannelConfig, ChannelSet, channel_set
from tasks.hashing import says_nothing

_SAID_VOLUME = {"anyOf": [{"type": kind} for kind in ("object", "string", "null")]}
"""What an editor may let pass as `volume`: its forms are one mapping once they are read."""


ImageKind = Literal["dicom", "nifti", "nrrd", "mha", "picture"]


class CohortConfig(BaseModel):
    """Which cases a scenario is about.

    ``where`` maps a kept header field (or, for ``row``, a column) to a value, a list of values, or
    ``{min: .., max: ..}`` with both ends included.  ``volume`` says which volume of a DICOM series
    that holds several is meant, see `tasks.archive.choice.parse_choice`.  ``without`` leaves cases
    out by the first 12 or more characters of their ids, e.g. one image that stands there twice.

    ``also_predict`` names kinds that a model is applied to besides the one it is trained on: a
    public set is a folder of pictures or MetaImage, and a hospital's images are DICOM.

    With ``channels`` a study is a case, its series are told apart by the ``where`` of each channel;
    see `tasks.cohort.channels` for ``required``, ``reference``, ``align`` and ``several``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["dicom", "nifti", "nrrd", "mha", "picture", "row"]
    also_predict: tuple[ImageKind, ...] = Field(default=(), exclude_if=says_nothing)
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    table: str | None = None
    where: dict[str, Any] = {}
    volume: Annotated[dict[str, Any] | None, WithJsonSchema(_SAID_VOLUME)] = None
    without: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{12,32}$")], ...] = ()
    channels: tuple[ChannelConfig, ...] = Field(default=(), exclude_if=says_nothing)
    required: tuple[str, ...] = Field(default=(), exclude_if=says_nothing)
    reference: str | None = Field(default=None, exclude_if=says_nothing)
    align: Align = Field(default="auto", exclude_if=lambda value: value == "auto")
    several: Literal["refuse", "finest"] = Field(
        default="refuse", exclude_if=lambda value: value == "refuse"
    )

    @field_validator("volume", mode="before")
    @classmethod
    def _which_volume(cls, value: Any) -> Any:
        return parse_choice(value).to_dict()

    @field_validator("modality", "body_part", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _predicates_fit_the_kind(self) -> Self:
        if (self.kind == "row") != (self.table is not None):
            raise ValueError(
                f"cohort kind {self.kind} with table {self.table}: "
                "a table is named for kind row and for no other"
            )
        if self.kind == "row" and (self.modality or self.body_part):
            raise ValueError("rows of a table have no modality or body part: use `where`")
        if self.volume and self.kind != "dicom":
            raise ValueError(f"cohort kind {self.kind} with volume: only DICOM series hold several")
        if self.also_predict and (self.kind == "row" or self.channels):
            raise ValueError("also_predict is for images of one series: take it out")
        if self.kind in self.also_predict:
            raise ValueError(f"also_predict names {self.kind}, which is the cohort's own kind")
        _check_where(self.where, headers=self.kind != "row")
        chosen = channel_set(self.channels, self.required, self.reference, self.align)
        if chosen and self.kind in ("row", "picture"):
            raise ValueError(f"cohort kind {self.kind} with channels: they are series of a volume")
        for channel in self.channels:
            _check_where(channel.where, headers=True)
        return self

    @property
    def predicted_kinds(self) -> tuple[str, ...]:
        """Kinds of case that a model of this cohort is applied to."""
        return (self.kind, *self.also_predict)

    @property
    def channel_set(self) -> ChannelSet | None:
        """What is said of channels; None where a series is a case."""
        return channel_set(self.channels, self.required, self.reference, self.align)

    @property
    def channels_said(self) -> dict[str, Any] | None:
        """The same as a recipe holds it."""
        chosen = self.channel_set
        return chosen and chosen.to_dict()

    def predicates(self) -> dict[str, Any]:
        """Return all predicates as one mapping, modality and body part first."""
        named = {"modality": list(self.modality), "body_part": list(self.body_part)}
        return {name: value for name, value in named.items() if value} | self.where


def _check_where(where: Mapping[str, Any], *, headers: bool) -> None:
    for name, wanted in where.items():
        if headers and name not in KEPT_FIELDS:
            raise ValueError(_unknown_field(name))
        if isinstance(wanted, dict) and not set(wanted) <= {"min", "max"}:
            raise ValueError(f"where {name} has {sorted(wanted)}: a range has min and max only")
        if isinstance(wanted, dict) and not wanted:
            raise ValueError(f"where {name} is an empty range: give min, max or both")


def _unknown_field(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, KEPT_FIELDS, 1)
    hint = f"nearest is {near[0]!r}; " if near else ""
    return f"where names the unknown field {name!r}: {hint}valid are {', '.join(KEPT_FIELDS)}"
