"""What a finding rests on: how much its score falls when parts of the image around it are covered.

Occlusion (Zeiler and Fergus 2014), asked of one finding: after each covering the best box of its
class that still lies on it tells how sure the network is, as D-RISE (Petsiuk et al. 2021) pairs
boxes. Captum's Occlusion wants one number a network answers for a class; what a detector answers
are boxes, so this is a loop of its own.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from tasks.archive.orders import OrderCase
from tasks.errors import BadCase
from tasks.evaluate.box_ap import intersection_over_union
from tasks.evaluate.saliency import Pointed, energy_in, points_into
from tasks.imaging.channels import prepare, reference_plane
from tasks.imaging.recipe import FittedRecipe
from tasks.learn.boxes import Findings, boxes_on, rows_of
from tasks.learn.detect import ask, padded
from tasks.learn.infer import as_input
from tasks.learn.model import Model
from tasks.learn.plan import NetworkPlan

GROWN = {2: 2.0, 3: 1.0}
"""By dimensions: sides of the box by which the part that is looked at reaches beyond it. The box is
a 25th of that of a picture and a 27th of that of a volume."""

STEPS = {2: 10, 3: 6}
"""By dimensions: steps a side, each half a side of the box; a cover is two steps wide, as large as
the box. So 81 coverings of a picture and 125 of a volume."""

AT_ONCE = 32
"""Covered pictures a network is asked about at once; of volumes as many as it was trained on."""

ITS_BOX, TRUE_BOX = "its own box", "the true box"


@dataclass(frozen=True, eq=False)
class Covered:
    """One finding and what it rests on.

    Parameters
    ----------
    case_id : str
    label : int
        Class number of the finding.
    score : float
        The model's.
    base : float
        That of the network that was asked, without a mirroring.
    least : float
        What the cover that hides most of it leaves of ``base``.
    image : (z, y, x) array
        The part around the finding, after the recipe.
    fall : (z, y, x) array
        Mean over the covers of each voxel of the share of ``base`` that is lost: 1 where nothing is
        left of the finding, below 0 where the network grows surer.
    masks : mapping of name to (z, y, x) array of bool
        `ITS_BOX`, and `TRUE_BOX` where its middle lies in one.
    """

    case_id: str
    label: int
    score: float
    base: float
    least: float
    image: np.ndarray
    fall: np.ndarray
    masks: Mapping[str, np.ndarray]

    def pointed(self) -> Pointed:
        """Return whether the fall is in the boxes."""
        return Pointed(
            self.case_id,
            1 - self.least / self.base,
            {
                name: (points_into(self.fall, mask), energy_in(self.fall, mask), float(mask.mean()))
                for name, mask in self.masks.items()
            },
        )


def cover_cases(
    model: Model, cases: Iterable[tuple[OrderCase, Sequence[Sequence[float]]]]
) -> Iterator[tuple[str, Covered | None]]:
    """Explain the best finding of each case.

    Parameters
    ----------
    model : Model
        A detector.
    cases : iterable of (OrderCase, rows of `tasks.learn.boxes.ROW` numbers)
        With the true boxes; a case that cannot be read, or that the recipe refuses, is left out.

    Yields
    ------
    str
        Case id.
    Covered or None
        None where nothing is found, or by no network alone.
    """
    recipe = FittedRecipe.from_dict(model.spec.recipe)
    for case, truth in cases:
        try:
            one = prepare(recipe, case).image
        except BadCase:
            continue
        found = model.detect(one.array)
        if not len(found):
            yield case.case_id, None
            continue
        true = boxes_on(rows_of(truth), one.affine)
        shown = reference_plane(one.array, recipe)
        yield case.case_id, cover(model, case.case_id, one.array, shown, found.take([0]), true)


def cover(
    model: Model,
    case_id: str,
    image: np.ndarray,
    shown: np.ndarray,
    finding: Findings,
    truth: np.ndarray,
) -> Covered | None:
    """Explain one finding of a prepared image; None where a network alone does not find it.

    Of the folds' networks the one is asked that is surest of it, and without mirrorings: all of
    them would take as many times as long.

    Parameters
    ----------
    model : Model
    case_id : str
    image : ([c,] z, y, x) array
    shown : (z, y, x) array
        Of several channels the one that is shown.
    finding : Findings
        One, in index coordinates of the image.
    truth : array (t, 2, 3)
        True boxes on the same grid.
    """
    plan, device = model.plan, model.device
    x = padded(as_input(np.array(image, np.float32))[0], plan)
    box, label = finding.box[0], int(finding.label[0])
    start, size = _window(plan, x.shape[1:], box)
    tile = x[(slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True)))].to(device)
    there = box - start

    def score_of(said: Findings) -> float:
        on_it = intersection_over_union(there, said.box) >= plan.detector.overlap
        return float(said.score[on_it & (said.label == label)].max(initial=0.0))

    bases = [score_of(ask(network, tile[None], plan.dims)[0]) for network in model.networks]
    first = int(np.argmax(bases))
    if bases[first] <= 0:
        return None
    limits = np.minimum(np.array(shown.shape) - start, size)
    edges = [_edges(there[:, axis], int(limits[axis]), plan.dims) for axis in range(3)]
    lost, times = np.zeros(size), np.zeros(size)
    covers = list(itertools.product(*(_covers(one) for one in edges)))
    least = np.inf
    for place, said in _asked(model.networks[first], tile, covers, edges, plan):
        left = score_of(said)
        least = min(least, left)
        lost[place] += 1 - left / bases[first]
        times[place] += 1
    part = tuple(slice(one[0], one[-1]) for one in edges)
    masks = {ITS_BOX: _inside(there, size)[part]}
    middle = box.mean(0)
    for true in truth:
        if ((middle >= true[0]) & (middle <= true[1])).all():
            masks[TRUE_BOX] = _inside(true - start, size)[part]
            break
    around = tuple(slice(s + p.start, s + p.stop) for s, p in zip(start, part, strict=True))
    return Covered(
        case_id=case_id,
        label=label,
        score=float(finding.score[0]),
        base=bases[first],
        least=least,
        image=shown[around],
        fall=(lost / np.maximum(times, 1))[part],
        masks={name: mask for name, mask in masks.items() if 0 < mask.mean() < 1},
    )


def _window(
    plan: NetworkPlan, shape: Sequence[int], box: np.ndarray
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return where a tile begins and how large it is: a picture whole, of a volume a patch."""
    if plan.dims == 2:
        return np.zeros(3, int), tuple(shape)
    size = np.array(plan.patch)
    start = np.round(box.mean(0) + 0.5 - size / 2).astype(int)
    return np.clip(start, 0, np.array(shape) - size), tuple(plan.patch)


def _edges(side: np.ndarray, most: int, dims: int) -> list[int]:
    """Return the voxels at which steps begin along one axis, and where the last one ends."""
    reach = (side[1] - side[0]) * GROWN[dims]
    low, high = np.clip([side[0] + 0.5 - reach, side[1] + 0.5 + reach], 0, most)
    edges = np.round(np.linspace(low, high, STEPS[dims] + 1)).astype(int)
    found = sorted(set(edges.tolist()))
    return found if len(found) > 1 else [0, most]


def _covers(edges: Sequence[int]) -> list[slice]:
    """Return covers two steps wide, one step apart; one where there is but one step."""
    if len(edges) < 3:
        return [slice(edges[0], edges[-1])]
    return [slice(a, b) for a, b in zip(edges[:-2], edges[2:], strict=True)]


def _asked(
    network: nn.Module,
    tile: Tensor,
    covers: Sequence[tuple[slice, ...]],
    edges: Sequence[Sequence[int]],
    plan: NetworkPlan,
) -> Iterator[tuple[tuple[slice, ...], Findings]]:
    """Give each cover with what is found under it."""
    part = tuple(slice(one[0], one[-1]) for one in edges)
    # The median of what is around: in a lung, air. A mean would be a grey spot, which is a finding.
    filled = tile[(slice(None), *part)].flatten(1).median(1).values
    together = AT_ONCE if plan.dims == 2 else max(1, plan.batch)
    for first in range(0, len(covers), together):
        batch = covers[first : first + together]
        tiles = tile.expand(len(batch), *tile.shape).clone()
        for number, place in enumerate(batch):
            tiles[(number, slice(None), *place)] = filled[:, None, None, None]
        yield from zip(batch, ask(network, tiles, plan.dims), strict=True)


def _inside(box: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return which voxels of a tile have their middle in a box."""
    mask = np.zeros(size, bool)
    low, high = np.ceil(box[0]).astype(int), np.floor(box[1]).astype(int) + 1
    mask[tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True))] = True
    return mask
