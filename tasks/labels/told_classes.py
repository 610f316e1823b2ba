"""What a folder's dataset.json calls the values of its masks, held against a scenario's classes.

Two folders of the same tumours number them otherwise: BraTS has 1 for necrosis and 2 for oedema,
nnU-Net's copy of it and the Decathlon's Task01 the reverse. Both are legal, and only this tells.
"""

import re
from collections.abc import Mapping
from typing import Any

from tasks.labels.config import LabelConfig

Values = tuple[int, ...]

_SPELLINGS = (("oedema", "edema"), ("tumour", "tumor"), ("haem", "hem"))


def class_misfit(said: Mapping[str, Any], config: LabelConfig) -> str:
    """Return in what a dataset.json and a scenario's labels contradict each other, or nothing.

    Parameters
    ----------
    said : mapping
        The file's content: ``labels`` as the Decathlon has them (value to name), or as nnU-Net v2
        (name to value, or to the values of a region).
    config : LabelConfig
        Of format decathlon.
    """
    told = _told(said.get("labels"))
    file_value = {here: value for value, here in config.numbers or ()}
    ours: dict[str, tuple[str, Values]] = {}
    named = [(name, (number,)) for number, name in enumerate(config.classes, start=1)]
    for name, values in (*named, *config.parts):
        ours[spelled(name)] = (name, tuple(sorted(file_value.get(one, one) for one in values)))
    for name, values in told.items():
        if name in ours and ours[name][1] != values:
            return _text(ours[name][0], values, ours[name][1])
    known = {tuple(sorted(file_value.get(v, v) for v in values)) for _, values in config.parts}
    for values in told.values():
        if known and len(values) > 1 and values not in known:
            return _text("a region", values, max(known, key=lambda one: len({*one} & {*values})))
    return ""


def _told(labels: Any) -> dict[str, Values]:
    """Return plain name -> values; what is neither form says nothing."""
    found: dict[str, Values] = {}
    if not isinstance(labels, Mapping):
        return found
    for key, value in labels.items():
        if str(key).isdigit() and isinstance(value, str):
            found[spelled(value)] = (int(key),)
        elif isinstance(value, int):
            found[spelled(str(key))] = (value,)
        elif isinstance(value, list) and all(isinstance(one, int) for one in value):
            found[spelled(str(key))] = tuple(sorted(value))
    return found


def spelled(name: str) -> str:
    """Return a name as two people would both spell it: small letters, digits, + and - alone.

    Letters are those of any script; a sign within a word is a space to some and none to others.
    """
    text = re.sub(r"[^\w+-]|_", "", name.casefold())
    text = re.sub(r"-(?=\w)", "", text)
    for one, other in _SPELLINGS:
        text = text.replace(one, other)
    return text


def _text(name: str, theirs: Values, ours: Values) -> str:
    there, here = (" and ".join(map(str, values)) for values in (theirs, ours))
    return (
        f"the folder's dataset.json says that {name} is {there} in its masks, the scenario reads "
        f"{here}: name labels.classes in the order of the values there, and write regions with "
        "its numbers"
    )
