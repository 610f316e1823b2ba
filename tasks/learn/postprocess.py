"""What is done to a mask after the network: few rules, each kept only if cross-validation improves.

nnU-Net's way (Isensee et al. 2021): every rule is tried on the masks of the validation sides, and
stays when the mean over classes, or regions, improves and none of them gets worse.  Chosen on those
masks alone, so the test side knows nothing of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from tasks.evaluate.config import MaskConfig, PostprocessConfig
from tasks.evaluate.lesions import lesion_scores
from tasks.evaluate.overlap import region_dice
from tasks.evaluate.segmentation import MaskFigures, mask_figures
from tasks.labels.regions import Regions, Sets, values_of, written_labels

CONNECTIVITY = 26
"""Voxels that share a corner are of one component, as nnU-Net and BraTS have it."""

MARGIN = 24
"""Voxels left around what is looked at: more than lesions may grow before they are told apart."""

WHOLE = "all classes"
"""What the foreground is called where there are no regions."""

Operation = Literal["largest", "drop_small", "fill_holes"]


class Rule(BaseModel):
    """One thing done to one region or class of a label map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: str
    """Its name."""
    values: tuple[int, ...]
    """Labels it is made of."""
    operation: Operation
    mm3: float | None = None
    """Volume below which `drop_small` takes a component away."""
    left: int = 0
    """Label of voxels that are taken away: that of the smallest region around, else background."""
    filled: int = 0
    """Label of voxels that are filled in."""

    @property
    def words(self) -> str:
        """The rule for people."""
        what = {"largest": "largest component", "fill_holes": "holes filled"}
        told = what.get(self.operation) or f"components below {self.mm3:g} mm3 dropped"
        return f"{self.part}: {told}"


@dataclass(frozen=True, eq=False)
class JudgedMask:
    """A case's mask by a network that never saw it, and the truth, on the prepared grid."""

    patient_key: str
    truth: np.ndarray
    said: np.ndarray
    spacing: tuple[float, float, float]


def cleaned(labels: np.ndarray, rules: Sequence[Rule], spacing: Sequence[float]) -> np.ndarray:
    """Return a label map (z, y, x) after the rules, in their order; the same one without rules.

    Parameters
    ----------
    labels : (z, y, x) array of int
    rules : sequence of Rule
    spacing : three floats, mm
    """
    if not rules or not labels.any():
        return labels
    box = _box_of(labels)
    found = labels.copy()
    inside = found[box]
    for rule in rules:
        before = np.isin(inside, rule.values)
        after = _done(before, rule, float(np.prod(spacing)))
        inside[before & ~after] = rule.left
        inside[after & ~before] = rule.filled
    return found


def choose_rules(
    cases: Sequence[JudgedMask],
    classes: Sequence[str],
    regions: Regions,
    config: MaskConfig,
    figure: str = "dice",
) -> tuple[Rule, ...]:
    """Return the rules that improve the masks of the validation sides.

    Region after region, the largest first, and within one first what takes away, then what fills:
    the best rule is kept when the mean over patients and regions improves and no region's gets
    worse.

    Parameters
    ----------
    cases : sequence of JudgedMask
        Out of fold.
    classes : sequence of str
        In the order of their label values from 1.
    regions : Regions
        What is measured instead of the classes, where there are any.
    config : MaskConfig
        With `postprocess`; nothing is tried without.
    figure : str
        ``dice`` or ``lesion_dice``, higher is better.
    """
    if config.postprocess is None or not cases:
        return ()
    sets = values_of(regions) or tuple((i,) for i in range(1, len(classes) + 1))
    score = partial(_mean_figure, [_cut(case) for case in cases], sets, config, figure)
    rules: tuple[Rule, ...] = ()
    best = score(rules)
    for together in _candidates(classes, regions, config.postprocess):
        tried = [(score((*rules, one)), one) for one in together]
        good = [(found, one) for found, one in tried if _better(found, best)]
        if good:
            found, one = max(good, key=lambda pair: pair[0].mean())
            best, rules = found, (*rules, one)
    return rules


def figures_after(
    case: JudgedMask,
    rules: Sequence[Rule],
    n_classes: int,
    config: MaskConfig,
    regions: Sequence[Sequence[int]],
) -> MaskFigures:
    """Return a case's figures with its mask after the rules."""
    said = cleaned(case.said, rules, case.spacing)
    return mask_figures(case.truth, said, case.spacing, n_classes, config, regions)


def _mean_figure(
    cases: Sequence[JudgedMask],
    sets: Sets,
    config: MaskConfig,
    figure: str,
    rules: Sequence[Rule],
) -> np.ndarray:
    """Return a figure of each region, the mean over patients of the mean over their cases."""
    of_patient: dict[str, list[np.ndarray]] = {}
    for case in cases:
        said = cleaned(case.said, rules, case.spacing)
        if figure == "dice":
            found = region_dice(case.truth, said, sets)[0]
        else:
            pairs = [(np.isin(case.truth, one), np.isin(said, one)) for one in sets]
            found = [lesion_scores(*pair, case.spacing, config.lesions).dice for pair in pairs]
        of_patient.setdefault(case.patient_key, []).append(np.array(found))
    return np.mean([np.mean(values, axis=0) for values in of_patient.values()], axis=0)


def _cut(case: JudgedMask) -> JudgedMask:
    """Return a case cut to where either mask is: the rest changes no figure and takes time."""
    both = (case.truth > 0) | (case.said > 0)
    if not both.any():
        return case
    box = tuple(slice(max(0, one.start - MARGIN), one.stop + MARGIN) for one in _box_of(both))
    return replace(case, truth=case.truth[box], said=case.said[box])


def _better(found: np.ndarray, best: np.ndarray) -> bool:
    # Sums of the same numbers in another order differ in their last bits.
    rounding = 1e-9
    return bool(found.mean() > best.mean() + rounding and (found >= best - rounding).all())


def _candidates(
    classes: Sequence[str], regions: Regions, config: PostprocessConfig
) -> Iterator[list[Rule]]:
    """Yield the rules of which at most one each may be kept."""
    parts = regions or tuple((name, (i,)) for i, name in enumerate(classes, start=1))
    own = written_labels(values_of(parts))
    if not regions and len(classes) > 1:
        everything = tuple(range(1, len(classes) + 1))
        yield list(_removals(WHOLE, everything, 0, config))
    for place, (name, values) in enumerate(parts):
        around = [i for i in range(place) if set(values) < set(parts[i][1])]
        yield list(_removals(name, values, own[around[-1]] if around else 0, config))
        if "fill_holes" in config.rules:
            yield [Rule(part=name, values=values, operation="fill_holes", filled=own[place])]


def _removals(
    name: str, values: tuple[int, ...], left: int, config: PostprocessConfig
) -> Iterator[Rule]:
    said = {"part": name, "values": values, "left": left}
    if "largest" in config.rules:
        yield Rule(operation="largest", **said)
    if "drop_small" in config.rules:
        for mm3 in config.volumes_mm3:
            yield Rule(operation="drop_small", mm3=mm3, **said)


def _done(mask: np.ndarray, rule: Rule, voxel_mm3: float) -> np.ndarray:
    """Return a region (z, y, x) of bool after a rule."""
    import cc3d
    from scipy.ndimage import binary_fill_holes

    if rule.operation == "fill_holes":
        # Along an axis of one voxel everything would lie open.
        flat = tuple(axis for axis, size in enumerate(mask.shape) if size == 1)
        return binary_fill_holes(mask.squeeze(flat)).reshape(mask.shape)
    parts, count = cc3d.connected_components(
        np.ascontiguousarray(mask), connectivity=CONNECTIVITY, binary_image=True, return_N=True
    )
    if not count:
        return mask
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    if rule.operation == "largest":
        return parts == sizes.argmax()
    kept = sizes * voxel_mm3 >= rule.mm3
    kept[0] = False
    return kept[parts]


def _box_of(labels: np.ndarray) -> tuple[slice, ...]:
    """Return the box that holds all labels: nothing outside can change."""
    box = []
    for axis in range(labels.ndim):
        there = np.flatnonzero(labels.any(tuple(a for a in range(labels.ndim) if a != axis)))
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)
