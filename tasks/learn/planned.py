"""A network's plan for people and for the record: what will be trained, before it is."""

from typing import Any

from tasks.learn.plan import NetworkPlan


def plan_in_words(plan: NetworkPlan) -> str:
    """Return one line: patch, channels, batch and length of the training."""
    looks = "image" if plan.task == "classification" else "patch"
    steps = "one pass" if plan.steps_per_epoch is None else f"{plan.steps_per_epoch} batches"
    parts = [
        f"{plan.network}, {looks} {_by(plan.patch)}",
        f"channels {'-'.join(map(str, plan.channels))}",
        f"batch {plan.batch}" + (f" x {plan.accumulate}" if plan.accumulate > 1 else ""),
        f"at most {plan.epochs} epochs of {steps}",
        f"{plan.optimizer} {plan.lr:g} {plan.schedule}",
    ]
    return ", ".join(parts)


def plan_params(plan: NetworkPlan) -> dict[str, Any]:
    """Return the values the plan derived, under the names of the table: ``plan/patch``."""
    return {
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


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
