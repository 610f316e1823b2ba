"""Runs, zones and neighbourhoods of grey levels, by mirp where it is installed.

70 numbers of five IBSI families: run lengths (GLRLM), size zones (GLSZM), distance zones (GLDZM),
grey tone differences (NGTDM) and grey level dependence (NGLDM), each in space, directions merged.
mirp gets our grey levels, so that bins and mask are those of the other families.
"""

import functools
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

FAMILIES = ("rlm", "szm", "dzm", "tdm", "ldm")
"""What mirp calls them."""

PREFIXES = ("rlm_", "szm_", "dzm_", "ngt_", "ngl_")
"""How the names of their numbers begin; other columns of mirp describe files."""

_SMALLEST = np.array([[[1, 2], [2, 1]], [[1, 1], [2, 2]]], dtype=np.int16)


def check_installed() -> None:
    """Refuse a recipe that needs mirp where it is not installed.

    Raises
    ------
    ValueError
    """
    if importlib.util.find_spec("mirp") is None:
        msg = "family mirp needs the package mirp: install radloop[radiomics] or leave it out"
        raise ValueError(msg)


@functools.cache
def mirp_names() -> tuple[str, ...]:
    """Return the names of `mirp_numbers`, which do not depend on the image."""
    check_installed()
    return tuple(mirp_numbers(_SMALLEST))


def mirp_numbers(levels: np.ndarray) -> dict[str, float]:
    """Return runs, zones and neighbourhoods of grey levels, by mirp's own names.

    Parameters
    ----------
    levels : ndarray (z, y, x), int16
        Grey levels from 1, 0 outside.
    """
    from mirp import extract_features

    with silent():
        (table,) = extract_features(
            image=levels.astype(np.float64),
            mask=(levels > 0).astype(np.int64),
            base_discretisation_method="none",
            base_feature_families=list(FAMILIES),
            write_features=False,
            export_features=True,
        )
    return {name: float(table[name].iloc[0]) for name in table.columns if name.startswith(PREFIXES)}


@contextmanager
def silent() -> Iterator[None]:
    """Keep mirp from setting up the process's log, which is not its own, and from writing to it."""
    root, nothing, before = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(nothing)
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(nothing)
