"""Cases of several channels: the series of one study that a network looks at together.

A case is a tuple of series, one a channel, the reference first: its grid is the case's, and its
header and labels speak for the case.  A series that is a case of its own has no such tuple.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.hashing import digest_json

if TYPE_CHECKING:  # the catalog brings SQLAlchemy, and a scenario must stay light
    from tasks.archive.catalog import Case

MOST_CHANNELS = 16
"""More is a mistake; a network's first layer would hold them all."""

SEVERAL, MISSING = "several_series", "missing_channel"
"""Reasons for which a study gives no case."""

Align = Literal["auto", "headers", "rigid", "affine"]


class ChannelConfig(BaseModel):
    """One channel: its name, and which series of a study it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,31}$")
    where: dict[str, Any] = Field(min_length=1)
    """Kept header field -> a value, a list of values, or ``{min: .., max: ..}``."""


@dataclass(frozen=True)
class ChannelSet:
    """What the recipe has to know of channels.

    Parameters
    ----------
    names : tuple of str
        In the order of the stored axis.
    required : tuple of str
        Without one of these there is no case.
    reference : str
        Whose grid all get.
    align : str
        ``headers`` believes where the scanner put the series, ``rigid`` and ``affine`` register
        them, ``auto`` registers rigidly those that share neither grid nor frame of reference.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    reference: str
    align: Align = "auto"

    @property
    def optional(self) -> tuple[str, ...]:
        """Channels that may be missing, in order."""
        return tuple(name for name in self.names if name not in self.required)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {
            "names": list(self.names),
            "required": list(self.required),
            "reference": self.reference,
            "align": self.align,
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> "ChannelSet":
        """Rebuild it from `to_dict`."""
        names, required = tuple(said["names"]), tuple(said["required"])
        return cls(names, required, said["reference"], said["align"])


def channel_set(
    channels: Sequence[ChannelConfig],
    required: Sequence[str],
    reference: str | None,
    align: Align,
) -> ChannelSet | None:
    """Return what a scenario says of channels with its defaults filled in; None without any.

    By default every channel is required, and the reference is the first that is.

    Raises
    ------
    ValueError
        When it contradicts itself.
    """
    names = tuple(channel.name for channel in channels)
    if not names:
        if required or reference or align != "auto":
            raise ValueError("required, reference and align go with channels: name them")
        return None
    if not 2 <= len(set(names)) == len(names) <= MOST_CHANNELS:
        raise ValueError(f"channels are {len(names)}: give 2 to {MOST_CHANNELS}, each its own name")
    for name in (*required, *((reference,) if reference else ())):
        if name not in names:
            raise ValueError(f"channel {name!r} is none of {', '.join(names)}")
    needed = tuple(name for name in names if name in required) or names
    if reference and reference not in needed:
        raise ValueError(f"the reference {reference!r} must be among required: its grid is theirs")
    return ChannelSet(names, needed, reference or needed[0], align)


@dataclass(frozen=True)
class Refused:
    """A study that gives no case."""

    case_id: str
    """Of what it would have been."""
    reason: str
    detail: str


@dataclass(frozen=True)
class Gathered:
    """Cases of several series, and what gives none."""

    cases: tuple["Case", ...]
    refused: tuple[Refused, ...]
    funnel: tuple[tuple[str, int], ...]


def gather(
    found: Iterable["Case"],
    channels: Sequence[ChannelConfig],
    chosen: ChannelSet,
    meets: Any,
    several: str = "refuse",
) -> Gathered:
    """Put the series of each study together.

    Parameters
    ----------
    found : iterable of Case
        Series; those that are no channel are left out.
    channels : sequence of ChannelConfig
    chosen : ChannelSet
    meets : callable (facts, name, wanted) -> bool
    several : str
        What to do with two series for one channel: ``refuse`` the study, or take the ``finest``,
        the one whose voxels are smallest by its header.

    Returns
    -------
    Gathered
        Cases ordered by id.
    """
    studies: dict[tuple[str, str, str], dict[str, list[Case]]] = {}
    n = 0
    for series in sorted(found, key=lambda one: one.case_id):
        for channel in channels:
            if all(meets(series.facts, *item) for item in channel.where.items()):
                n += 1
                # Without a study a series stands alone: a patient's years are not one case.
                place = series.source, series.patient_key, series.study_key or series.case_id
                studies.setdefault(place, {}).setdefault(channel.name, []).append(series)
    cases, refused = [], []
    for _, held in sorted(studies.items()):
        one = _case(held, chosen, several)
        (refused if isinstance(one, Refused) else cases).append(one)
    lacking = sum(one.reason == MISSING for one in refused)
    funnel = (
        (f"series that are {' or '.join(chosen.names)}", n),
        ("studies with such series", len(studies)),
        (f"with {' and '.join(chosen.required)}", len(studies) - lacking),
        ("with one series for each channel", len(cases)),
    )
    ordered = tuple(sorted(cases, key=lambda case: case.case_id))
    return Gathered(ordered, tuple(refused), funnel)


def _case(held: Mapping[str, list["Case"]], chosen: ChannelSet, several: str) -> "Case | Refused":
    """Return the case of one study, or why it is none."""
    picked: dict[str, Case] = {}
    doubtful = []
    for name, candidates in held.items():
        best = _best(candidates, several)
        if best is None:
            doubtful.append(f"{name} ({len(candidates)})")
        picked[name] = best or candidates[0]
    ids = [[name, [one.case_id for one in held[name]]] for name in chosen.names if name in held]
    missing = [name for name in chosen.required if name not in held]
    if missing:
        has = ", ".join(name for name in chosen.names if name in held)
        detail = f"the study has no series for {', '.join(missing)}; it has {has}"
        return Refused(digest_json(["no case", ids]), MISSING, detail)
    if doubtful:
        detail = (
            f"several series for {', '.join(sorted(doubtful))}: narrow their `where`, or say "
            "`several: finest` where their voxels differ"
        )
        return Refused(digest_json(["no case", ids]), SEVERAL, detail)
    order = (chosen.reference, *(name for name in chosen.names if name != chosen.reference))
    return joined(tuple((name, picked[name]) for name in order if name in picked))


def joined(series: tuple[tuple[str, "Case"], ...]) -> "Case":
    """Return the case that series make together, each under its channel, the reference first."""
    # The order of the scenario's list does not matter, which channel a series is does.
    versions = sorted([name, one.case_id] for name, one in series)
    lead = series[0][1]
    return replace(
        lead,
        case_id=digest_json(["case", versions]),
        n_instances=sum(one.n_instances for _, one in series),
        series=series,
    )


def _best(candidates: Sequence["Case"], several: str) -> "Case | None":
    """Return the one series that is meant, None when nothing says which."""
    if len(candidates) == 1:
        return candidates[0]
    if several != "finest":
        return None
    sizes = [_voxel_mm3(one.facts) for one in candidates]
    if None in sizes or sizes.count(min(sizes)) > 1:
        return None
    return candidates[sizes.index(min(sizes))]


def _voxel_mm3(facts: Mapping[str, object]) -> float | None:
    sides = [facts.get(name) for name in ("spacing_row", "spacing_col", "slice_thickness")]
    stated = all(isinstance(side, int | float) and side > 0 for side in sides)
    return prod(sides) if stated else None
