"""The command that keeps the store small: says what can go, and with --yes takes it away."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from flows.commands.start import open_home


def gc(args: argparse.Namespace) -> int:
    """Say what no run, model or scenario needs, or remove it."""
    from flows.collect import Plan, collect, plan_collection

    home = open_home(args)
    plan: Plan = (
        collect(home, compact=args.compact)
        if args.yes
        else plan_collection(home, compact=args.compact)
    )
    if args.json:
        print(json.dumps(_document(plan, done=args.yes)))
        return 0
    for merge in plan.merges:
        print(f"merge {len(merge.parts)} parts into {merge.part_id[:12]}  {_mb(merge.bytes)}")
    for one in plan.removals:
        print(f"{one.kind:<12} {one.path}  {_mb(one.bytes)}  {one.why}")
    if plan.foreign:
        size = _mb(sum(one.bytes for one in plan.foreign))
        print(
            f"{len(plan.foreign)} parts of {size} were made for another catalog and stay: should "
            "it be gone for good, remove them by hand (--json names them)"
        )
    total = _mb(sum(one.bytes for one in plan.removals))
    if args.yes:
        print(f"{len(plan.merges)} merges done, {len(plan.removals)} removed, {total} freed")
    else:
        print(f"{len(plan.merges)} merges, {len(plan.removals)} removals, {total} would be freed")
        if plan.merges or plan.removals:
            print("nothing was changed; add --yes to do it")
    return 0


def _document(plan: Any, *, done: bool) -> dict[str, Any]:
    return {
        "done": done,
        "removals": [asdict(one) for one in plan.removals],
        "merges": [
            {"part_id": merge.part_id, "parts": [part.part_id for part in merge.parts]}
            for merge in plan.merges
        ],
        "foreign": [asdict(one) for one in plan.foreign],
        "bytes": sum(one.bytes for one in plan.removals),
    }


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
