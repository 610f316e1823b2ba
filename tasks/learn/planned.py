"""A network's plan for people and for the record: what will be trained, before it is."""

from collections.abc import Sequence
from typing import Any

from tasks.learn.plan import NetworkPlan
from tasks.learn.zoo import OF_WHOLE_IMAGES


def plan_in_words(plan: NetworkPlan) -> str:
    """Return one line: patch, channels, batch and length of the training."""
    looks = "image" if plan.task in OF_WHOLE_IMAGES else "patch"
    steps = "one pass" if plan.steps_per_epoch is None else f"{plan.steps_per_epoch} batches"
    parts = [
        f"{plan.network}, {looks} {_by(plan.patch)}",
        f"channels {'-'.join(map(str, plan.channels))}",
        f"batch {plan.batch}" + (f" x {plan.accumulate}" if plan.accumulate > 1 else ""),
        f"{plan.epochs} epochs of {steps}",
        f"{plan.optimizer} {plan.lr:g} {plan.schedule}",
    ]
    if plan.detector is not None:
        parts.append(f"{plan.detector.backbone} backbone, anchors {_anchors(plan)}")
        parts += ["second look"] if plan.detector.second_look else []
        parts += [loss] if (loss := _loss_of_volumes(plan)) else []
    return ", ".join(parts)


def mirrored_sides(classes: Sequence[str], plan: NetworkPlan) -> str:
    """Say of which classes mirroring makes one another, as of a left and a right lung; or nothing.

    Whether an axis runs from right to left is not known here: any that is mirrored is named.
    """
    axes = sorted({*plan.augment.flip, *plan.flip_tta}, reverse=True)
    known = {name.lower(): name for name in classes}
    twins = [
        f"{known[name]} and {known[twin]}"
        for name in known
        if "left" in name and (twin := name.replace("left", "right")) in known
    ]
    if not axes or not twins:
        return ""
    return (
        f"mirrored along {', '.join(axes)}, which makes one of {twins[0]} the other: where an axis "
        "runs from side to side, leave it out of flip under augment, and of flip_tta"
    )


def plan_params(plan: NetworkPlan) -> dict[str, Any]:
    """Return the values the plan derived, under the names of the table: ``plan/patch``."""
    own = {}
    if plan.detector is not None:
        own = {"plan/anchors": _anchors(plan), "plan/backbone": plan.detector.backbone}
        own |= {"plan/second_look": True} if plan.detector.second_look else {}
        own |= {"plan/loss": loss} if (loss := _loss_of_volumes(plan)) else {}
    return own | {
        "plan/patch": _by(plan.patch),
        "plan/features": "-".join(map(str, plan.channels)),
        "plan/strides": " ".join(_by(s) for s in plan.strides),
        "plan/kernels": " ".join(_by(k) for k in plan.kernels),
        "plan/batch": plan.batch,
        "plan/accumulate": plan.accumulate,
        "plan/epochs": plan.epochs,
        "plan/steps_per_epoch": plan.steps_per_epoch or 0,
        "plan/lr": plan.lr,
        "plan/optimizer": plan.optimizer,
        "plan/schedule": plan.schedule,
    }


def _loss_of_volumes(plan: NetworkPlan) -> str:
    """Return what a detector of volumes learns its classes from; other detectors have no choice."""
    if plan.network != "retinanet3d":
        return ""
    return "hard negatives" if plan.detector.hard_negatives else "focal loss"


def _anchors(plan: NetworkPlan) -> str:
    """Return the anchors as a scenario may say them."""
    return " ".join("x".join(f"{n:g}" for n in size) for size in plan.detector.anchors)


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
