"""What a network of whole images looks at, and whether that says anything of the network."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from tasks.archive.orders import OrderCase
from tasks.archive.volume import Volume
from tasks.errors import BadCase
from tasks.evaluate.saliency import (
    Looked,
    energy_in,
    points_into,
    rank_correlation,
    structural_similarity,
)
from tasks.imaging.channels import prepare, reference_plane
from tasks.imaging.recipe import FittedRecipe, replay
from tasks.imaging.step import Image
from tasks.labels.case_mask import case_mask
from tasks.learn.answer import calibrated
from tasks.learn.explain import METHODS, explain, ruined
from tasks.learn.infer import as_input
from tasks.learn.model import Model
from tasks.learn.networks import to_network

OUTLINE = "outline"
"""Name of the mask that a reader drew for the case's label."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One case and where the model looks in it.

    Parameters
    ----------
    case_id : str
    image : (z, y, x) array
        After the recipe; of several series the reference.
    answer : (k,) array
        Calibrated probabilities; of a regression the one number, in its unit.
    explained : int
        The class that is explained: the positive one of two, else the called one.
    maps : mapping of method to (z, y, x) array
    masks : mapping of name to (z, y, x) array of bool
    looked : tuple of Looked
        One a method.
    """

    case_id: str
    image: np.ndarray
    answer: np.ndarray
    explained: int
    maps: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray]
    looked: tuple[Looked, ...]


def look(model: Model, cases: Iterable[OrderCase], seed: int = 0) -> Iterator[Seen]:
    """Explain a network's answer to cases by all `METHODS`, and try the methods themselves.

    The maps are means over the folds; the first fold's network is the one that is ruined.

    Parameters
    ----------
    model : Model
        A classifier or a regression.
    cases : iterable of OrderCase
        One that cannot be read, or that the recipe refuses, is left out.
    seed : int
        Of the weights drawn anew.
    """
    recipe = FittedRecipe.from_dict(model.spec.recipe)
    for case in cases:
        try:
            one = prepare(recipe, case)
        except BadCase:
            continue
        masks = _masks(recipe, case, one.volume, one.image, one.traces)
        seen = look_at(model, case.case_id, one.image.array, masks, seed)
        yield replace(seen, image=reference_plane(one.image.array, recipe))


def look_at(
    model: Model, case_id: str, image: np.ndarray, masks: Mapping[str, np.ndarray], seed: int = 0
) -> Seen:
    """Explain one prepared image ([c,] z, y, x); see `look`."""
    spec, plan, device = model.spec, model.plan, model.device
    answer = model.predict(image)
    if spec.task != "regression":
        answer = calibrated(spec, answer[None])[0]
    called = int(answer.argmax())
    explained = called if spec.positive is None else spec.classes.index(spec.positive)

    def asked(method: str, networks: list) -> np.ndarray:
        return explain(method, networks, plan, image, explained, device)

    x = to_network(as_input(np.array(image, np.float32)), plan.dims)
    first = model.networks[0]
    own = {method: asked(method, [first]) for method in METHODS}
    rank = {method: [] for method in METHODS}
    ssim = {method: [] for method in METHODS}
    # Each case ruins the model in its own way: one draw of weights might resemble it by luck.
    for wrong in ruined(first, x.to(device), _seed_of(case_id, seed)):
        for method in METHODS:
            worse = asked(method, [wrong])
            rank[method].append(rank_correlation(own[method], worse))
            ssim[method].append(structural_similarity(own[method], worse))
    maps = {method: asked(method, list(model.networks)) for method in METHODS}
    looked = tuple(
        Looked(
            case_id,
            method,
            tuple(rank[method]),
            tuple(ssim[method]),
            {
                name: (points_into(seen, mask), energy_in(seen, mask), float(mask.mean()))
                for name, mask in masks.items()
            },
        )
        for method, seen in maps.items()
    )
    return Seen(case_id, image, answer, explained, maps, masks, looked)


def _seed_of(case_id: str, seed: int) -> int:
    return int.from_bytes(sha256(f"{seed} {case_id}".encode()).digest()[:7], "big")


def _masks(
    recipe: FittedRecipe, case: OrderCase, volume: Volume, image: Image, traces: tuple[dict, ...]
) -> dict[str, np.ndarray]:
    """Return the masks of the recipe's steps and of the label on the prepared grid."""
    found = {name: mask > 0 for name, mask in image.masks.items()}
    if case.mask is not None:
        outline = Image(case_mask(case, volume), volume.affine)
        found[OUTLINE] = replay(recipe, traces, outline).array > 0
    # A mask of everything, or of nothing, is no place.
    return {name: mask for name, mask in found.items() if 0 < mask.mean() < 1}
