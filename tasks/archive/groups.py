"""One series to its volumes: frames grouped by what really varies where positions repeat.

Frames of different image types are never one volume. Otherwise nothing is split that forms one
stack, and nothing is guessed: a grouping is taken only when it leaves no more volumes than
positions repeat. Instance Number is never asked.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.archive.choice import REPEAT, TYPE, VARIES, value_text
from tasks.archive.codes import IMAGE_TYPES
from tasks.archive.frames import Frame
from tasks.archive.geometry import SAME_POSITION_MM, certify
from tasks.errors import BadCase

CLOCK = "clock"
"""Time of a slice: it differs within a volume too, so its rank at each position counts."""

RANGES = ("stack", "acquisition")
"""What may part a series into stacks that do not share all positions (thorax, then abdomen)."""

LEAST_RANGE = 3
"""Slices a part of a series must have to count as a stack of its own: two always lie evenly."""


@dataclass(frozen=True)
class Group:
    """The frames of one volume."""

    key: str
    """What tells it from the other volumes of its series; empty for the only one."""
    frames: list[Frame]
    picture: bool = False
    """Whether it is an image, or a cine, without a place in the patient."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What all its frames state alike, by the names of keys: what a choice is compared with."""


def split(frames: Sequence[Frame]) -> list[Group]:
    """Group placed frames into volumes.

    Parameters
    ----------
    frames : sequence of Frame
        All placed; in any order.

    Returns
    -------
    list of Group
        Ordered by what varies. Keys name only what differs, e.g. ``"te=30"`` or
        ``"b=1000,direction=0.7071/0/0.7071"``. What cannot be told apart stays together, for the
        certificate to refuse.
    """
    found = []
    types = _regroup(list(frames), lambda frame: frame.image_type)
    words = _told_words([kind for kind, _ in types])
    for (_, same), word in zip(types, words, strict=True):
        for key, part in _by_what_varies(same):
            told = ",".join(filter(None, (word, key)))
            found.append(Group(told, part, facts=facts_of(part, told)))
    return found


def facts_of(frames: Sequence[Frame], key: str = "") -> dict[str, Any]:
    """Return what all frames of a volume state alike, by the names of keys.

    Parameters
    ----------
    frames : sequence of Frame
    key : str
        Of the volume: its rank and the words it is told by stand nowhere else.

    Returns
    -------
    dict
        Values as `Frame.varies` has them, texts as keys write them; ``type`` is a tuple of words.
        A field in which frames differ is left out.
    """
    told = dict(part.partition("=")[::2] for part in key.split(",") if part)
    found: dict[str, Any] = {TYPE: tuple(_word(word) for word in frames[0].image_type)}
    for name in VARIES:
        values = {frame.varies.get(name) for frame in frames}
        if len(values) == 1:
            value = values.pop()
            found[name] = _word(value) if isinstance(value, str) else value
    if REPEAT in told:
        found[REPEAT] = float(told[REPEAT])
    return found | {"told_type": told.get(TYPE, "")}


def _by_what_varies(frames: list[Frame]) -> list[tuple[str, list[Frame]]]:
    places = _places(frames)
    most = int(np.bincount(places).max())
    if most > 1:
        keys: list[str] = []
        parts = [((), frames)]
        for name in VARIES:
            tried = _regroup(frames, lambda frame, n=(*keys, name): _values(frame, n))
            if _separates(frames, places, name) and len(tried) <= most and _fair(tried, name):
                keys.append(name)
                parts = tried
                if not any(_repeats(part) for _, part in parts):
                    break
        return [
            (",".join(filter(None, (_told(keys, values), rank))), part)
            for values, whole in parts
            for rank, part in _ranked(whole)
        ]
    if len(frames) >= 2 * LEAST_RANGE and not _sound(frames):
        for name in RANGES:
            parts = _regroup(frames, lambda frame, n=name: _values(frame, (n,)))
            if len(parts) > 1 and all(
                len(part) >= LEAST_RANGE and _sound(part) for _, part in parts
            ):
                return [(_told([name], values), part) for values, part in parts]
    return [("", frames)]


def _regroup(frames: list[Frame], key: Any) -> list[tuple[Any, list[Frame]]]:
    parts: dict[Any, list[Frame]] = {}
    for frame in frames:
        parts.setdefault(key(frame), []).append(frame)
    return sorted(parts.items(), key=lambda item: _sortable(item[0]))


def _values(frame: Frame, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(frame.varies.get(name) for name in names)


def _separates(frames: list[Frame], places: np.ndarray, name: str) -> bool:
    """Tell whether some position holds frames that differ in this."""
    seen: dict[int, Any] = {}
    return any(
        seen.setdefault(place, frame.varies.get(name)) != frame.varies.get(name)
        for place, frame in zip(places.tolist(), frames, strict=True)
    )


def _fair(parts: list[tuple[Any, list[Frame]]], name: str) -> bool:
    """Keep a slice that was taken again from passing for a volume of one slice."""
    if name not in RANGES:
        return True
    sizes = {len(part) for _, part in parts}
    return len(sizes) == 1 or min(sizes) >= LEAST_RANGE


def _ranked(frames: list[Frame]) -> list[tuple[str, list[Frame]]]:
    """Part frames that share positions by the order in which each position was taken."""
    places = _places(frames)
    counts = np.bincount(places)
    clocks = [frame.varies.get(CLOCK) for frame in frames]
    if counts.max() == 1 or counts.min() != counts.max() or None in clocks:
        return [("", frames)]
    taken: dict[int, list[tuple[float, int]]] = {}
    for number, (place, clock) in enumerate(zip(places.tolist(), clocks, strict=True)):
        taken.setdefault(place, []).append((clock, number))
    if any(len({clock for clock, _ in at}) < len(at) for at in taken.values()):
        return [("", frames)]
    ordered = [sorted(at) for at in taken.values()]
    return [
        (f"{REPEAT}={rank + 1}", [frames[at[rank][1]] for at in ordered])
        for rank in range(int(counts.max()))
    ]


def _places(frames: Sequence[Frame]) -> np.ndarray:
    """Return the number of each frame's place along the normal; one place, one number."""
    directions = np.array([frame.orientation for frame in frames])
    middle = np.median(directions, axis=0)
    normal = np.cross(middle[:3], middle[3:])
    height = np.array([frame.position for frame in frames]) @ normal
    order = np.argsort(height, kind="stable")
    new = np.concatenate([[0], np.diff(height[order]) >= SAME_POSITION_MM])
    places = np.empty(len(frames), dtype=int)
    places[order] = np.cumsum(new)
    return places


def _repeats(frames: list[Frame]) -> bool:
    return int(np.bincount(_places(frames)).max()) > 1


def _sound(frames: list[Frame]) -> bool:
    """Tell whether frames form one even stack as they are."""
    directions = np.array([frame.orientation for frame in frames])
    positions = np.array([frame.position for frame in frames])
    try:
        certificate, _ = certify(positions, directions[:, :3], directions[:, 3:], frames[0].spacing)
    except BadCase:
        return False
    return certificate.verdict == "accept"


def _told(names: Sequence[str], values: Sequence[Any]) -> str:
    return ",".join(f"{name}={_text(value)}" for name, value in zip(names, values, strict=True))


def _text(value: Any) -> str:
    return value_text(_word(value) if isinstance(value, str) else value)


def _told_words(types: list[tuple[str, ...]]) -> list[str]:
    """Name image types by the words that not all of them share; one type needs no name."""
    if len(types) == 1:
        return [""]
    shared = set.intersection(*(set(words) for words in types))
    told = ["/".join(_word(word) for word in words if word not in shared) for words in types]
    clash = len(set(told)) < len(told)
    return [
        f"type={_hashed('/'.join(words)) if clash else said or 'plain'}"
        for words, said in zip(types, told, strict=True)
    ]


def _word(word: str) -> str:
    """Return a known word as it is, others hashed; a key may stand in a log or a name."""
    known = word in IMAGE_TYPES or (word.isdigit() and len(word) < 3)
    return word if known else _hashed(word)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _sortable(value: Any) -> tuple:
    """Order values of mixed kinds: nothing first, then numbers, texts and tuples of these."""
    if value is None:
        return (0,)
    if isinstance(value, tuple):
        return (3, tuple(_sortable(v) for v in value))
    return (2, value) if isinstance(value, str) else (1, value)
