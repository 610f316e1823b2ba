"""Which volume of a series that holds several is meant: echo, b-value, time point, image type.

A scenario says it once; it is part of the fitted recipe and so of its id, because another volume
gives other voxels. Nothing here is read from files, and nothing heavy is imported: a scenario holds
one of these.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

VARIES = ("te", "ti", "flip", "kvp", "b", "direction", "time", "phase", "stack", "acquisition")
"""What tells volumes apart, asked in this order: echo time (ms), inversion time (ms), flip angle
(degrees), tube voltage (kV), b-value (s/mm2), gradient direction, temporal position, trigger delay
(ms), stack and acquisition number."""

TYPE = "type"
"""Words of Image Type (PS3.3 C.7.6.1.1.2), of the frame in enhanced objects."""

REPEAT = "repeat"
"""Rank among volumes that only the clock tells apart, from 1."""

NAMES = (TYPE, *VARIES, REPEAT)
"""What a choice may name: what stands in the keys of volumes."""

TAKE = "take"
ONLY, FIRST, LAST = "only", "first", "last"
TAKES = (ONLY, FIRST, LAST)
"""Which of the volumes that fit: there must be one only, or the first or last in key order."""

NOT_STATED = "none"
"""How a key writes a value that the header does not state."""

T = TypeVar("T")


@dataclass(frozen=True)
class VolumeChoice:
    """What a volume must be, and which of those that are.

    Parameters
    ----------
    wanted : mapping
        Name -> texts any of which will do, as keys write them, or ``{"min": a, "max": b}`` with
        both ends included and one of them at least.
    take : str
        ``"only"``, ``"first"`` or ``"last"``.
    """

    wanted: Mapping[str, tuple[str, ...] | Mapping[str, float]] = field(default_factory=dict)
    take: str = ONLY

    def to_dict(self) -> dict[str, Any] | None:
        """Return it as JSON-able values; None when it says no more than saying nothing."""
        if not self.wanted and self.take == ONLY:
            return None
        told = {
            name: dict(value) if isinstance(value, Mapping) else list(value)
            for name, value in self.wanted.items()
        }
        return told | ({} if self.take == ONLY else {TAKE: self.take})

    def __str__(self) -> str:
        """Return it in the words of keys, e.g. ``te=30,b=from 800 to 1200, the first``."""
        told = ",".join(f"{name}={_in_words(value)}" for name, value in self.wanted.items())
        return ", ".join(filter(None, (told, "" if self.take == ONLY else f"the {self.take}")))


def parse_choice(said: Any) -> VolumeChoice:
    """Return the choice that a scenario says.

    Parameters
    ----------
    said : None, str or mapping
        Nothing; ``only``, ``first`` or ``last``; a key as `radloop export` and the quarantine
        write it (``te=30,b=1000``); or a mapping of such names to a value, a list of values,
        ``null`` (not stated) or ``{min: .., max: ..}``, with ``take`` beside them.

    Raises
    ------
    ValueError
        For a name or form that there is not; names the nearest.
    """
    if said is None:
        return VolumeChoice()
    if isinstance(said, str):
        if said in TAKES:
            return VolumeChoice(take=said)
        said = _key_as_mapping(said)
    if not isinstance(said, Mapping):
        raise ValueError(f"volume is {said!r}: say first, last, only, a key or a mapping")
    take = said.get(TAKE, ONLY)
    if take not in TAKES:
        raise ValueError(f"volume take is {take!r}: say {', '.join(TAKES)}")
    for name in said:
        if name not in (*NAMES, TAKE):
            near = difflib.get_close_matches(str(name), NAMES, 1)
            hint = f"nearest is {near[0]!r}; " if near else ""
            raise ValueError(f"volume names {name!r}: {hint}valid are {', '.join(NAMES)}, {TAKE}")
    # In the order of keys, so that two ways of saying one thing are one recipe.
    wanted = {name: _wanted(name, said[name]) for name in NAMES if name in said}
    return VolumeChoice(wanted, take)


def choose(
    choice: VolumeChoice, volumes: Sequence[T], facts: Callable[[T], Mapping[str, Any]]
) -> list[T]:
    """Return the volumes that a choice leaves: one, when it is clear which is meant.

    Parameters
    ----------
    choice : VolumeChoice
    volumes : sequence
        Of one series, in the order of their keys.
    facts : callable
        Volume -> `groups.Group.facts`.
    """
    # A key that was copied names its volume, also where another's words hold all of its own.
    fit = [v for v in volumes if _fits(choice, facts(v), exact=True)]
    fit = fit or [v for v in volumes if _fits(choice, facts(v), exact=False)]
    if choice.take == ONLY or not fit:
        return fit
    return [fit[0] if choice.take == FIRST else fit[-1]]


def value_text(value: Any) -> str:
    """Return a value as keys write it; texts are returned as they are."""
    if value is None:
        return NOT_STATED
    if isinstance(value, tuple):
        return "/".join(value_text(v) for v in value)
    # Python counts True among the numbers; a header does not.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if is_number else str(value)


def _key_as_mapping(key: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in key.split(",")]
    if not all(name and sign and value for name, sign, value in pairs):
        raise ValueError(f"volume is {key!r}: say first, last, only, or a key such as te=30,b=1000")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _wanted(name: str, value: Any) -> tuple[str, ...] | dict[str, float]:
    if isinstance(value, Mapping):
        ends = {end: value[end] for end in ("min", "max") if end in value}
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in ends.values())
        if not ends or len(ends) < len(value) or not numbers:
            raise ValueError(f"volume {name} is {dict(value)}: a range is {{min: a, max: b}}")
        return {end: float(v) for end, v in ends.items()}
    several = value if isinstance(value, list | tuple) else [value]
    if not several or not all(isinstance(v, str | int | float | None) for v in several):
        raise ValueError(f"volume {name} is {value!r}: give a value, a list or {{min: a, max: b}}")
    return tuple(sorted({value_text(v) for v in several}))


def _fits(choice: VolumeChoice, facts: Mapping[str, Any], *, exact: bool) -> bool:
    return all(_meets(name, facts, wanted, exact) for name, wanted in choice.wanted.items())


def _meets(name: str, facts: Mapping[str, Any], wanted: Any, exact: bool) -> bool:
    """Tell whether a volume is what is wanted; one whose slices differ in it is nothing."""
    if name not in facts:
        return False
    value = facts[name]
    if isinstance(wanted, Mapping):
        if not isinstance(value, int | float):
            return False
        return wanted.get("min", value) <= value <= wanted.get("max", value)
    if name == TYPE and not exact:
        return any(set(words.split("/")) <= set(value) for words in wanted)
    return facts.get("told_type", "") in wanted if name == TYPE else value_text(value) in wanted


def _in_words(wanted: tuple[str, ...] | Mapping[str, float]) -> str:
    if isinstance(wanted, Mapping):
        ends = (("from", wanted.get("min")), ("to", wanted.get("max")))
        return " ".join(f"{word} {end:g}" for word, end in ends if end is not None)
    return " or ".join(wanted)
