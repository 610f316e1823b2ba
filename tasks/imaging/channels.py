"""One case through a recipe, with every series it is made of on the grid of its reference.

The reference goes through the recipe as a case of one series does, and its traces are the case's:
labels are put on its grid and predictions come back to it.  The other series are laid on its source
grid first and follow it step by step: what changes intensities is done to each by itself, what
changes the grid is done to all alike, and masks are those of the reference.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tasks.archive.orders import OrderCase, OrderSeries
from tasks.archive.volume import Volume
from tasks.cohort.channels import MISSING, ChannelSet
from tasks.errors import BadCase
from tasks.imaging.recipe import FittedRecipe, FittedStep, apply, output_dtype, ready, walk
from tasks.imaging.register import LEAST_OVERLAP, judge, register
from tasks.imaging.regrid import resample_onto
from tasks.imaging.source import read_source, source_image
from tasks.imaging.step import Image

SAME_GRID_MM = 1e-3
"""Two grids are one when no corner lies farther from its twin."""

ABSENT = 0.0
"""What a missing channel holds: the mean, after the recipe's normalisation."""


@dataclass(frozen=True)
class PreparedCase:
    """A case after the recipe.

    Parameters
    ----------
    volume : Volume
        Source of the reference.
    image : Image
        Its array is (z, y, x), or (c, z, y, x) with channels.
    traces : tuple of dict
        Of the reference, for `replay` and `invert`.
    present : tuple of bool
        Which channels the case has; empty without channels.
    aligned : mapping
        Channel -> how it came onto the grid: JSON-able, for the certificate.
    """

    volume: Volume
    image: Image
    traces: tuple[dict, ...]
    present: tuple[bool, ...]
    aligned: dict[str, Any]

    @property
    def certificate(self) -> dict[str, Any]:
        """The reference's certificate, with how the others were laid on its grid."""
        said = {"channels": self.aligned} if self.present else {}
        return {**self.volume.certificate, **said}


@dataclass(frozen=True)
class LaidCase:
    """A case before its recipe: every series on the source grid of the reference, in real units.

    Parameters
    ----------
    volume : Volume
        Source of the reference.
    images : mapping
        Channel -> image (z, y, x), the reference first; of one series "" -> its image.
    aligned : mapping
        Channel -> how it came onto the grid.
    """

    volume: Volume
    images: dict[str, Image]
    aligned: dict[str, Any]


def prepare(recipe: FittedRecipe, case: OrderCase) -> PreparedCase:
    """Read a case and obey the recipe.

    Raises
    ------
    BadCase
        As `lay` and `obey`.
    """
    return obey(recipe, lay(recipe, case))


def lay(recipe: FittedRecipe, case: OrderCase) -> LaidCase:
    """Read the series of a case and lay them on the grid of their reference.

    Raises
    ------
    BadCase
        When a series cannot be read or aligned; with several, the detail names its channel.
        ``missing_channel`` without one that the recipe requires.
    """
    if recipe.channels is None:
        volume = read_source(recipe, case)
        return LaidCase(volume, {"": source_image(volume)}, {})
    chosen = ChannelSet.from_dict(recipe.channels)
    held = {one.channel: one for one in case.series if one.channel in chosen.names}
    missing = [name for name in chosen.required if name not in held]
    if missing:
        raise BadCase(MISSING, f"the case has no series for {', '.join(missing)}")
    volume = read_source(recipe, _alone(case, held[chosen.reference]))
    reference, aligned = source_image(volume), {}
    images = {chosen.reference: reference}
    for name in chosen.names:
        if name in held and name != chosen.reference:
            moving = _named(name, read_source, recipe, _alone(case, held[name]))
            images[name], aligned[name] = _named(name, _onto, reference, volume, moving, chosen)
    return LaidCase(volume, images, aligned)


def obey(recipe: FittedRecipe, laid: LaidCase) -> PreparedCase:
    """Take a case's series through the recipe together.

    Raises
    ------
    BadCase
        When a step refuses one; with several series the detail names its channel.
    """
    (reference, first), *rest = laid.images.items()
    if recipe.channels is None:
        image, traces = apply(recipe, first)
        return PreparedCase(laid.volume, image, traces, (), {})
    chosen, others = ChannelSet.from_dict(recipe.channels), dict(rest)
    image, traces = _together(recipe, first, others)
    shape, dtype = image.array.shape, output_dtype(recipe)
    array = np.full((len(chosen.names), *shape), ABSENT, dtype)
    present = []
    for number, name in enumerate(chosen.names):
        found = image if name == reference else others.get(name)
        present.append(found is not None)
        if found is not None:
            array[number] = found.array
    image = Image(array, image.affine, image.masks, image.facts)
    return PreparedCase(laid.volume, image, traces, tuple(present), laid.aligned)


def reference_plane(array: np.ndarray, recipe: FittedRecipe) -> np.ndarray:
    """Return the reference's channel (z, y, x) of a prepared image, for pictures."""
    if recipe.channels is None:
        return array
    chosen = ChannelSet.from_dict(recipe.channels)
    return array[chosen.names.index(chosen.reference)]


def _alone(case: OrderCase, series: OrderSeries) -> OrderCase:
    return replace(case, files=series.files, modality=series.modality, series=())


def _named(name: str, call: Any, *given: Any) -> Any:
    """Call, and say of which channel a refusal speaks."""
    try:
        return call(*given)
    except BadCase as bad:
        raise BadCase(bad.reason, f"channel {name}: {bad.detail}") from None


def _onto(
    reference: Image, place: Volume, moving: Volume, chosen: ChannelSet
) -> tuple[Image, dict[str, Any]]:
    """Lay a series on the reference's source grid, and say how."""
    image = source_image(moving)
    if chosen.align in ("auto", "headers"):
        if same_grid(reference, image):
            return image, {"by": "grid"}
        one_frame = bool(place.frame) and place.frame == moving.frame
        if one_frame or chosen.align == "headers":
            return _where_headers_say(image, reference)
    found = register(reference, image, "affine" if chosen.align == "affine" else "rigid")
    told = {
        "by": found.kind,
        "quality": round(found.quality, 4),
        "overlap": round(found.overlap, 4),
        "shift_mm": round(found.shift_mm, 3),
        "rotation_deg": round(found.rotation_deg, 3),
    }
    return _laid(image, found.matrix, reference), told


def _where_headers_say(image: Image, reference: Image) -> tuple[Image, dict[str, Any]]:
    """Lay a series where its headers put it, and say how well it explains the reference there.

    Headers are believed, so that a low quality is no refusal; but what hardly shares a place with
    the reference would be a channel of nearly nothing.
    """
    laid = _laid(image, np.eye(4), reference)
    found, overlap = judge(reference, image, np.eye(4))
    if overlap < LEAST_OVERLAP:
        detail = f"{overlap:.0%} of the smaller image lies within the other, {LEAST_OVERLAP:.0%}"
        raise BadCase("no_overlap", f"{detail} is the least")
    quality = round(min(found.normalised, 1.0), 4)
    return laid, {"by": "headers", "quality": quality, "overlap": round(overlap, 4)}


def _laid(image: Image, matrix: np.ndarray, reference: Image) -> Image:
    laid = resample_onto(image, matrix, reference.array.shape, reference.affine)
    if np.ptp(laid.array) == 0:
        # The scanner's headers may put two series of one patient beside each other.
        raise BadCase("no_overlap", "nothing of it lies on the grid of the reference")
    return laid


def same_grid(one: Image, other: Image) -> bool:
    """Say whether two images have one grid."""
    if one.array.shape != other.array.shape:
        return False
    ends = np.array([0.0, 1.0])[:, None] * (np.array(one.array.shape) - 1)
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), -1).reshape(-1, 3)
    corners = np.column_stack([corners, np.ones(len(corners))])
    apart = corners @ (one.affine - other.affine).T
    return bool(np.linalg.norm(apart[:, :3], axis=1).max() < SAME_GRID_MM)


def _together(
    recipe: FittedRecipe, reference: Image, others: dict[str, Image]
) -> tuple[Image, tuple[dict, ...]]:
    """Take the reference through the recipe and the others, in place, after it."""
    before, traces = reference, []
    for fitted, after, trace in walk(recipe.steps, reference):
        for name, other in others.items():
            others[name] = _named(name, _follow, fitted, before, after, trace, other)
        before = after
        traces.append(trace)
    return before, tuple(traces)


def _follow(
    fitted: FittedStep, before: Image, after: Image, trace: dict[str, Any], other: Image
) -> Image:
    """Do to another series what a step did to the reference."""
    step, params = ready(fitted)
    array = other.array
    if step.replay is not None and step.by_voxels(params):
        array = step.replay(array, trace)
    elif step.replay is not None or not (step.marks(params) or step.features(params)):
        asked = Image(array, before.affine, before.masks, other.facts)
        array = step.apply(asked, params)[0].array
    if array.shape != after.array.shape:
        detail = f"step {fitted.name} gives it shape {array.shape} and the reference "
        raise BadCase("wrong_shape", f"{detail}{after.array.shape}")
    return Image(array, after.affine, after.masks, other.facts)
