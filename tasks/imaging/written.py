"""A fitted recipe and what it was fitted on, as a person may read and edit them."""

from typing import Any

import yaml

from tasks.cohort.fingerprint import Fingerprint
from tasks.imaging.recipe import FittedRecipe, ready


def recipe_lines(recipe: FittedRecipe) -> list[str]:
    """Return a line of YAML a step, every learnt number in it, as a scenario may say it."""
    lines = []
    for fitted in recipe.steps:
        _, params = ready(fitted)
        said = {"step": fitted.name, **params.model_dump(mode="json", exclude_none=True)}
        text = yaml.safe_dump(said, default_flow_style=True, width=10_000, sort_keys=False)
        lines.append(f"- {text.strip()}")
    return lines


def fingerprint_lines(fingerprint: Fingerprint) -> list[str]:
    """Return what training cases have in common, a line a fact."""
    modality = ", ".join(name or "not said" for name in fingerprint.modalities) or "not said"
    lines = [
        f"training cases {fingerprint.n_cases}, modality {modality}",
        f"spacing        median {_by(fingerprint.median_spacing)} mm (z, y, x)",
        f"size           median {_by(fingerprint.median_shape)} voxels",
        f"foreground     mean {fingerprint.mean:.5g}, deviation {fingerprint.std:.5g}, "
        f"0.5 to 99.5 % {fingerprint.p005:.5g} to {fingerprint.p995:.5g}",
    ]
    if fingerprint.median_inside:
        lines.insert(
            3,
            f"not 0          median {_by(fingerprint.median_inside)} voxels, "
            f"{fingerprint.inside_share:.0%} of the image",
        )
    return lines


def learnt_params(recipe: dict[str, Any] | None) -> dict[str, Any]:
    """Return spacing and scale of a recipe (`FittedRecipe.to_dict`) under names of the record."""
    found: dict[str, Any] = {}
    for step in (recipe or {}).get("steps", ()):
        params = step["params"]
        if step["name"] == "resample":
            found["recipe/spacing"] = _by(params["spacing"])
        if step["name"] == "normalise":
            found["recipe/normalise"] = params["method"]
            if params["method"] == "fingerprint":
                found["recipe/scale"] = " ".join(
                    f"{name}={params[name]:.6g}" for name in ("mean", "std", "p005", "p995")
                )
    return found


def prepared_size(
    recipe: FittedRecipe, fingerprint: Fingerprint
) -> tuple[tuple[int, int, int], tuple[float, float, float]] | None:
    """Return shape (z, y, x) and spacing (mm) of the typical image after a recipe.

    None when a step changes the grid in another way than cutting off zeros and resampling.
    """
    shape, spacing = fingerprint.median_shape, fingerprint.median_spacing
    for fitted in recipe.steps:
        step, params = ready(fitted)
        if step.replay is None or fitted.name == "reorient":
            continue
        if fitted.name == "crop" and params.shape == "nonzero" and fingerprint.median_inside:
            shape = fingerprint.median_inside
        elif fitted.name == "resample":
            sizes = zip(shape, spacing, params.spacing, strict=True)
            shape = tuple(max(1, round(n * old / new)) for n, old, new in sizes)
            spacing = tuple(params.spacing)
        else:
            return None
    return shape, spacing


def _by(numbers: Any) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
