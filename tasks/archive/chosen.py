"""The one volume of a series that is meant, or a reason that tells which there are."""

from tasks.archive.choice import ONLY, VolumeChoice, choose, value_text
from tasks.archive.groups import Group
from tasks.errors import BadCase

MAX_TOLD = 6
"""Keys of volumes that a message lists; a time series has hundreds."""


def named_group(groups: list[Group], key: str) -> Group:
    """Return the volume of that key; the only one has none.

    Raises
    ------
    BadCase
        ``no_such_volume``, or ``several_volumes`` and ``several_images`` when no key is given.
    """
    for group in groups:
        if group.key == key:
            return group
    if key:
        told = f"volume {key!r} is not in this series; it holds {_keys(groups)}"
        raise BadCase("no_such_volume", told)
    raise _several(groups, "in one series")


def chosen_group(groups: list[Group], choice: VolumeChoice) -> Group:
    """Return the one volume that a choice leaves.

    Raises
    ------
    BadCase
        ``no_such_volume``, ``several_volumes`` or ``several_images``.
    """
    if groups[0].picture and len(groups) > 1 and choice.take != ONLY:
        raise BadCase("several_images", f"{len(groups)} images have no first and last among them")
    fit = choose(choice, groups, lambda group: group.facts)
    if not fit:
        asked = VolumeChoice(choice.wanted)
        raise BadCase("no_such_volume", f"none is {asked}; the series holds {_keys(groups, asked)}")
    if len(fit) > 1:
        raise _several(fit, f"are {choice}" if choice.wanted else "in one series")
    return fit[0]


def _several(groups: list[Group], what: str) -> BadCase:
    """Say that several volumes might be meant, and which."""
    if groups[0].picture:
        return BadCase(
            "several_images",
            f"{len(groups)} images {what} are not one image; name one: {_keys(groups)}",
        )
    return BadCase("several_volumes", f"{len(groups)} volumes {what}; name one: {_keys(groups)}")


def _keys(groups: list[Group], asked: VolumeChoice | None = None) -> str:
    """Return the keys of volumes; of the only one, what it is of what was asked."""
    shown = [group.key or "(the only one)" for group in groups[:MAX_TOLD]]
    if asked and not groups[0].key:
        has = {name: groups[0].facts.get(name) for name in asked.wanted}
        told = ",".join(f"{name}={value_text(value)}" for name, value in has.items())
        shown[0] = f"one volume, {told}"
    return ", ".join(shown) + (", ..." if len(groups) > len(shown) else "")
