"""Which segment of a file is which class, told by its name; light to import.

Structures of radiotherapy, segments of 3D Slicer and of DICOM SEG are numbered in the order in
which somebody made them. Only their names say what they are, and these differ between readers.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from tasks.errors import BadCase
from tasks.hashing import says_nothing

if TYPE_CHECKING:
    from tasks.labels.shapes import Segment

NAMED: Mapping[str, Mapping[str, str]] = {"rtstruct": {"join": "series"}, "slicer": {}}
"""Formats whose classes are always told by name, and what follows from each."""

MOST_CLASSES = 255
"""Values of a stored mask beside its background."""

Way = tuple[str, ...]
"""Names that make up a class together."""

Segments = tuple[tuple[str, tuple[Way, ...]], ...]
"""Class -> the ways in which it may be named, the first that a file holds whole counts."""

_NAME = {"type": "string", "minLength": 1}
_SAID = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [
            _NAME,
            {
                "type": "array",
                "minItems": 1,
                "items": {"anyOf": [_NAME, {"type": "array", "minItems": 1, "items": _NAME}]},
            },
        ]
    },
}
"""Segments as people write them, for editors."""


class NamedSegments(BaseModel):
    """What a scenario's labels say of segments that are told by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segments: Annotated[Segments, WithJsonSchema(_SAID)] = Field(
        default=(), exclude_if=says_nothing
    )
    """Names of each class in the files, in any case of letters: ``{lung: [Lungs, [Lung_L,
    Lung_R]]}`` is the structure Lungs or else both of the others. A class that is not here is
    called in the files as in the scenario."""
    absent: tuple[str, ...] = Field(default=(), exclude_if=says_nothing)
    """Classes that a patient may lack: a file without them says that there is nothing."""
    overlap: Literal["refuse", "later"] = Field(
        default="refuse", exclude_if=lambda value: value == "refuse"
    )
    """Of voxels in two classes: refuse the case, or give them to the later one of `classes`."""

    @field_validator("segments", mode="before")
    @classmethod
    def _as_ways(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return tuple((name, tuple(map(_way, _listed(ways)))) for name, ways in value.items())


def named_misfit(labels: Any) -> str:
    """Return what is wrong in what a `LabelConfig` says of names, or nothing."""
    said = {"segments": labels.segments, "absent": labels.absent}
    said["overlap"] = labels.overlap != "refuse"
    wrong = [name for name, is_said in said.items() if is_said]
    if wrong and labels.format not in (*NAMED, "masks"):
        return f"labels of format {labels.format!r} have no key {wrong[0]}: leave it out"
    if wrong and labels.format == "masks" and not labels.segments:
        return f"labels.{wrong[0]} is of segments told by name: give labels.segments as well"
    if labels.format == "rtstruct" and labels.join != "series":
        return "structure sets name the series they were drawn on: leave labels.join out"
    return "" if named(labels) is None else _misfit_of_names(labels)


def _misfit_of_names(labels: Any) -> str:
    if len(labels.classes) > MOST_CLASSES:
        return f"a mask holds {MOST_CLASSES} classes at most, {len(labels.classes)} are named"
    for name in (*(name for name, _ in labels.segments), *labels.absent):
        if name not in labels.classes:
            known = ", ".join(labels.classes)
            return f"labels.segments and labels.absent name {name!r}; the classes are {known}"
    owner: dict[str, int] = {}
    for number, (name, ways) in enumerate(_ways(labels.classes, labels.segments)):
        if not ways or not all(way and all(map(plain, way)) for way in ways):
            return f"labels.segments gives {name} no name, or an empty one: name its segments"
        for one in {plain(one) for way in ways for one in way}:
            if (other := owner.setdefault(one, number)) != number:
                names = f"{labels.classes[other]} and {name}"
                return f"labels.segments gives {names} one segment: name it for one of them"
    return ""


@dataclass(frozen=True)
class Named:
    """What a worker must know to tell the classes of a file; the number of a class is its place."""

    form: str
    ways: Segments
    absent: tuple[str, ...]
    later_wins: bool

    def text(self) -> str:
        """Return it as a work order carries it; `read_named` reads it."""
        return json.dumps([self.form, self.ways, self.absent, self.later_wins])

    @property
    def names(self) -> frozenset[str]:
        """Every name that is asked for, plain."""
        return frozenset(plain(one) for _, ways in self.ways for way in ways for one in way)

    def choose(self, segments: Iterable["Segment"]) -> dict[int, tuple["Segment", ...]]:
        """Return the segments of each class, by its number; a class that may be absent has none.

        Raises
        ------
        BadCase
            ``segment_missing``: a class is not in the file, or nothing is drawn of it.
            ``segment_repeated``: two segments bear a name that is asked for. Details hold
            names of the scenario and numbers of the file alone.
        """
        known: dict[str, Segment] = {}
        for one in segments:
            if (name := plain(one.name)) not in self.names:
                continue
            if name in known:
                raise BadCase(
                    "segment_repeated",
                    f"segments {known[name].number} and {one.number} bear one name of a class: "
                    "rename or remove one of them",
                )
            known[name] = one
        return {
            number: self._of_class(name, ways, known)
            for number, (name, ways) in enumerate(self.ways, start=1)
        }

    def _of_class(
        self, name: str, ways: tuple[Way, ...], known: Mapping[str, "Segment"]
    ) -> tuple["Segment", ...]:
        mays = [[known.get(plain(one)) for one in way] for way in ways]
        whole = [way for way in mays if None not in way]
        drawn = [way for way in whole if all(one.mask.any() for one in way)]
        if drawn:
            return tuple(drawn[0])
        some = [one for way in mays for one in way if one is not None and one.mask.any()]
        if name in self.absent and not some:
            return ()
        if some:
            detail = f"the class {name} is of several segments, of which some are not drawn"
        elif whole:
            detail = f"nothing is drawn of the class {name} (segment {whole[0][0].number})"
        else:
            detail = f"no segment of the file is named as the class {name} is"
        raise BadCase(
            "segment_missing",
            f"{detail}: draw it, name it in labels.segments, or the class in labels.absent",
        )


def named(labels: Any) -> str | None:
    """Return what a work order says of names, or None where values or numbers tell the classes."""
    if labels.format not in NAMED and not labels.segments:
        return None
    ways = _ways(labels.classes, labels.segments)
    return Named(labels.format, ways, labels.absent, labels.overlap == "later").text()


def read_named(text: str) -> Named:
    """Return what a text of `Named.text` says."""
    form, ways, absent, later = json.loads(text)
    held = tuple((name, tuple(map(tuple, ways))) for name, ways in ways)
    return Named(form, held, tuple(absent), later)


def plain(name: str) -> str:
    """Return a name without what people do not mean by it: case of letters and spare spaces."""
    return " ".join(name.split()).casefold()


def _ways(classes: Collection[str], segments: Segments) -> Segments:
    said = dict(segments)
    return tuple((name, said.get(name, ((name,),))) for name in classes)


def _listed(ways: Any) -> Any:
    if not isinstance(ways, str | list | tuple):
        raise ValueError("give each class a list of names, as in {lung: [Lungs, Lung]}")
    return [ways] if isinstance(ways, str) else ways


def _way(way: Any) -> Any:
    return (way,) if isinstance(way, str) else way
