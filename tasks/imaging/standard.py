"""Recipes that ship with the package: where to begin for each kind of image, by name.

A scenario says ``recipe: ct-lung`` instead of a list. The name is replaced by its steps when the
scenario is read, so that hashes and recipe ids rest on the steps alone.
"""

from collections.abc import Mapping
from typing import Any

Steps = tuple[dict[str, Any], ...]

STANDARD: Mapping[str, Steps] = {
    # nnU-Net's preprocessing in its order: intensities before the grid, so that 0 stays 0.
    "auto": (
        {"step": "crop", "shape": "nonzero"},
        {"step": "normalise", "method": "auto"},
        {"step": "resample", "spacing": "auto", "order": "cubic", "masks": "onehot"},
    ),
    "ct-lung": (
        {"step": "straighten"},
        {"step": "reorient"},
        {"step": "lung"},
        {"step": "resample", "spacing": [1.0, 1.0, 1.0]},
        {"step": "crop_to_mask", "mask": "lung", "margin_mm": 10},
        {"step": "window", "name": "lung"},
    ),
    "ct-soft-tissue": (
        {"step": "straighten"},
        {"step": "reorient"},
        {"step": "body"},
        {"step": "crop_to_mask", "mask": "body", "margin_mm": 5},
        {"step": "resample", "spacing": "median", "order": "cubic"},
        {"step": "normalise", "method": "fingerprint"},
    ),
    "ct-bone": (
        {"step": "straighten"},
        {"step": "reorient"},
        {"step": "bone"},
        {"step": "resample", "spacing": [1.0, 1.0, 1.0]},
        {"step": "window", "name": "bone"},
    ),
    "mr-brain": (
        {"step": "straighten"},
        {"step": "reorient"},
        {"step": "bias_correction"},
        {"step": "brain"},
        {"step": "resample", "spacing": [1.0, 1.0, 1.0]},
        {"step": "crop_to_mask", "mask": "brain", "margin_mm": 5},
        {"step": "normalise", "method": "masked_zscore", "mask": "brain"},
    ),
    "mr": (
        {"step": "straighten"},
        {"step": "reorient"},
        {"step": "bias_correction"},
        {"step": "histogram_standard"},
        {"step": "resample", "spacing": "median", "order": "cubic"},
        {"step": "normalise"},
    ),
    "radiograph": (
        {"step": "percentile_clip"},
        {"step": "pad_square"},
        {"step": "resize", "shape": [1, 512, 512]},
        {"step": "normalise"},
    ),
    "mammogram": (
        {"step": "breast"},
        {"step": "crop_to_mask", "mask": "breast", "margin_mm": 5},
        {"step": "percentile_clip"},
        {"step": "pad_square"},
        {"step": "resize", "shape": [1, 1024, 1024]},
        {"step": "normalise", "method": "minmax"},
    ),
    "ultrasound": (
        {"step": "lee", "kind": "additive", "size": 5},
        {"step": "pad_square"},
        {"step": "resize", "shape": [1, 256, 256]},
        {"step": "normalise", "method": "percentile"},
    ),
}
"""Name to steps. A changed recipe is another recipe: parts and models of the old one stay."""


def standard(name: str) -> list[dict[str, Any]]:
    """Return the steps of a standard recipe.

    Raises
    ------
    ValueError
        When there is none of that name; names the nearest, or all.
    """
    import difflib

    if name not in STANDARD:
        near = difflib.get_close_matches(name, STANDARD, 1, 0.5)
        hint = f"did you mean {near[0]!r}" if near else f"there are {', '.join(STANDARD)}"
        raise ValueError(f"there is no standard recipe {name!r}: {hint}?")
    return [dict(step) for step in STANDARD[name]]
