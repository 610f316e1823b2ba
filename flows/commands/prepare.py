"""Commands before a run: sources, a scenario and its sides, and what a run would do. No server."""

import argparse
import json

from flows.commands.start import open_home
from flows.console import say
from tasks.errors import RadloopError


def source(args: argparse.Namespace) -> None:
    """Register or list sources."""
    from tasks.archive.sources import resolve_source
    from tasks.archive.vault import put_source

    home = open_home(args)
    if args.action == "add":
        put_source(home.vault, resolve_source(args.place, alias=args.alias))
        print(f"source {args.alias} registered")
        return
    for known in home.sources():
        print(f"{known.alias:<24} {known.kind}")


def new(args: argparse.Namespace) -> None:
    """Write a commented scenario from what catalog and labels hold."""
    from flows.forecast import draft

    home = open_home(args)
    text, problems, advised = draft(home, args.name, args.labels, args.source)
    path = home.settings.home / "scenarios" / f"{args.name}.yaml"
    if path.exists():
        raise RadloopError(f"{path} exists; choose another name or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(path)
    for problem in problems:
        say(f"  does not match: {problem}")
    for line in advised:
        say(f"  does not suit: {line}")
    say(f"read it, change what is not meant, then `radloop check {args.name}`")


NAMELESS = {"fracatlas": "FracAtlas", "busi": "BUSI", "luna16": "LUNA16"}
"""Data sets whose pictures do not even say which are of one patient."""


def map_images(args: argparse.Namespace) -> None:
    """Write whose the pictures of a public data set are, beside its tables."""
    from tasks.archive.sources import MAPPING_NAME
    from tasks.labels.layouts import mapping_text

    path = args.folder / MAPPING_NAME
    text, lines = mapping_text(args.layout, args.folder)
    if path.exists() and path.read_text() != text:
        raise RadloopError(
            f"the folder holds another {MAPPING_NAME}; remove it if it is not needed any more"
        )
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text)
    beside.replace(path)
    patients = len({line.patient for line in lines})
    print(f"{path}: {len(lines):,} pictures of {patients:,} patients")
    if args.layout in NAMELESS:
        print(f"{NAMELESS[args.layout]} names no patients: each picture counts as a patient of its")
        print("own, so two pictures of one person may stand on both sides of a split; figures may")
        print("be too good")
    if args.layout == "busi":
        from tasks.labels.busi import write_masks

        masks = args.folder.resolve().with_name(f"{args.folder.resolve().name}-masks")
        print(f"{masks}: {write_masks(args.folder, masks):,} masks")


def check(args: argparse.Namespace) -> int:
    """Say what a run would do; starts nothing and writes nothing."""
    from flows.forecast import forecast

    home = open_home(args)
    place = home.source(args.source, register=False).alias if args.source else None
    found = forecast(home, home.scenario(args.scenario, keep=False), place)
    if args.json:
        print(json.dumps(found))
        return 0 if not found["problems"] else 1
    for text, count in found["funnel"]:
        print(f"{count:>8,}  {text}")
    for side, classes in found["balance"].items():
        counts = ", ".join(f"{name} {count}" for name, count in classes.items())
        print(f"{side:<10} {counts} patients")
    for line in found["notes"]:
        print(line)
    for problem in found["problems"]:
        print(f"PROBLEM  {problem}")
    return 1 if found["problems"] else 0


def split(args: argparse.Namespace) -> None:
    """Print the sides of a scenario's patients, or open the next test edition."""
    from tasks.archive.commits import assign, assignments, editions, open_edition
    from tasks.cohort.split import newest_edition, open_next_edition, split_id

    home = open_home(args)
    scenario = home.scenario(args.scenario)
    key = split_id(scenario.name, scenario.split)
    if args.new_edition:
        rows = open_next_edition(assignments(home.catalog, key))
        assign(home.catalog, key, rows)
        open_edition(home.catalog, key, rows[0].edition, len(rows))
        print(f"opened test edition {rows[0].edition} with {len(rows)} patients")
    known = assignments(home.catalog, key)
    for side in ("train", "test", "reserve"):
        print(f"{side:<8} {sum(row.side == side for row in known.values()):>7,} patients")
    print(f"edition  {newest_edition(known):>7}")
    for edition in editions(home.catalog, key):
        print(f"  edition {edition.edition}: used {edition.uses} times")


def schema(args: argparse.Namespace) -> None:
    """Print the JSON schema of a scenario file."""
    from tasks.scenario import Scenario

    print(json.dumps(Scenario.model_json_schema(), indent=1))
