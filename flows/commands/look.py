"""Commands that look and answer at once; only a retry of the quarantine starts a server."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.commands.start import open_home
from flows.console import say
from flows.home import Home
from tasks.errors import RadloopError


def status(args: argparse.Namespace) -> None:
    """Print how much of everything there is."""
    from tasks.archive.catalog import status as counts

    home = open_home(args)
    found = counts(home.catalog) | {"models": _models(home), "home": str(home.settings.home)}
    if args.json:
        print(json.dumps(found))
        return
    for name in ("patients", "studies", "series", "instances", "rows", "cases", "pending"):
        print(f"{name:<12} {found[name]:>10,}")
    print(f"{'parts':<12} {found['parts']:>10,}  ({found['part_bytes'] / 1e6:,.1f} MB)")
    print(f"{'label sets':<12} {found['label_sets']:>10,}")
    for name, count in found["modalities"].items():
        print(f"  series of modality {name:<14} {count:>8,}")
    refused = sum(found["quarantine"].values())
    hint = "  (`radloop quarantine` says why and what to do)" if refused else ""
    print(f"{'quarantine':<12} {refused:>10,}{hint}")
    for name, count in found["quarantine"].items():
        print(f"  {name.replace('_', ' '):<32} {count:>8,}")
    for model in found["models"]:
        print(f"model {model['name']} version {model['version']}: {model['alias']}")


def quarantine(args: argparse.Namespace) -> int:
    """Print why things could not be used, or read them again."""
    from tasks.archive.catalog import quarantine_reasons
    from tasks.archive.reasons import remedy

    if args.retry:
        from flows.commands.run import retry_quarantine

        return retry_quarantine(args)
    home = open_home(args)
    reasons = quarantine_reasons(home.catalog)
    if args.json:
        print(json.dumps([asdict(one) | {"remedy": remedy(one.reason)} for one in reasons]))
        return 0
    if args.files:
        return _write_places(home, args.files)
    if not reasons:
        print("nothing in quarantine")
    for reason in reasons:
        print(f"{reason.n:>7,}  {reason.stage}: {reason.reason}")
        example = reason.examples[0]
        if example.detail:
            print(f"         e.g. {example.quarantine_id[:12]}: {example.detail}")
        if what_to_do := remedy(reason.reason):
            print(f"         to do: {what_to_do}")
    if reasons:
        print("`radloop quarantine --files FILE` writes which files these are, for your eyes alone")
    return 0


def _write_places(home: Home, path: Path) -> int:
    """Write which files are in quarantine: places name patients, so the list is its owner's."""
    from tasks.archive.audit import append
    from tasks.archive.quarantine_list import write_quarantine_list

    rows = write_quarantine_list(path, home.catalog, home.vault)
    append(home.settings.audit_path, "quarantine-list", rows=rows)
    print(f"{rows} rows written to {path}, readable by you alone: places may name patients")
    return 0


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
    from flows.cohorts import draft

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
    from flows.cohorts import forecast

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


def compare(args: argparse.Namespace) -> None:
    """Print the scenario's runs of one test edition side by side."""
    from flows.evidence import tracker_for
    from tasks.serve.comparing import comparable_runs

    home = open_home(args)
    scenario = home.scenario(args.scenario)
    edition = args.edition or _newest_edition(home, scenario)
    rows = []
    if home.has_runs:
        rows = comparable_runs(tracker_for(home, scenario.name), scenario.name, edition)
    if not rows:
        msg = (
            f"scenario {scenario.name} has no finished training of test edition {edition}; "
            f"run `radloop retrain {scenario.name}` first"
        )
        raise RadloopError(msg)
    shown = [
        {"run": row.name, "kind": row.kind, "id": row.run_id}
        | {name: value for name, value in sorted(row.metrics.items()) if "/" in name}
        for row in rows
    ]
    if args.json:
        print(json.dumps({"scenario": scenario.name, "edition": edition, "runs": shown}))
        return
    print(f"{scenario.name}, test edition {edition}")
    _table(shown, scenario.evaluate.primary)


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


def verify(args: argparse.Namespace) -> int:
    """Read every part back and check the chains of audit log and ledger."""
    from flows.console import progress
    from tasks.archive.audit import verify_audit
    from tasks.archive.commits import all_parts
    from tasks.serve.ledger import verify_ledger
    from tasks.store.verify import verify_part

    home = open_home(args)
    rows = all_parts(home.catalog)
    problems = []
    with progress("verifying parts", total=len(rows), unit="parts") as advance:
        for number, row in enumerate(rows, start=1):
            found = verify_part(home.settings.store_root, row.path, row.digest)
            problems += [f"part {row.part_id[:12]}: {problem}" for problem in found]
            advance(number, len(rows))
    if home.settings.audit_path.exists():
        problems += [f"audit: {problem}" for problem in verify_audit(home.settings.audit_path)]
    ledger = home.settings.home / "ledger.jsonl"
    if ledger.exists():
        problems += [f"ledger: {problem}" for problem in verify_ledger(ledger)]
    for problem in problems:
        print(problem)
    print(f"{len(rows)} parts read back, {len(problems)} problems")
    return 1 if problems else 0


def trace(args: argparse.Namespace) -> int:
    """Print what an id is and what refers to it."""
    from tasks.archive.catalog import trace as look_up

    home = open_home(args)
    found = look_up(home.catalog, args.id)
    if args.json:
        print(json.dumps([asdict(one) for one in found]))
        return 0 if found else 1
    if not found:
        msg = f"nothing in the catalog is called {args.id}; give 6 characters of an id or more"
        raise RadloopError(msg)
    for one in found:
        print(f"{one.kind} {one.id}")
        for name, value in one.facts.items():
            print(f"  {name}: {value}")
        for reference in one.references:
            print(f"  {reference.relation}: {reference.n}")
            for key in reference.ids[:5]:
                print(f"    {key}")
    return 0


def _models(home: Home) -> list[dict[str, Any]]:
    from flows.evidence import models

    return models(home) if home.has_runs else []


def _newest_edition(home: Home, scenario: Any) -> int:
    from tasks.archive.commits import assignments
    from tasks.cohort.split import newest_edition, split_id

    return newest_edition(assignments(home.catalog, split_id(scenario.name, scenario.split)))


def _table(rows: list[dict[str, Any]], primary: str) -> None:
    """Print the runs with the primary metric and what else most runs have, best first."""
    names = [f"{side}/{primary}" for side in ("oof", "test")]
    others = [
        name
        for name in dict.fromkeys(n for row in rows for n in row if "/" in n)
        if not name.endswith(("_lo", "_hi")) and name not in names and name.startswith("oof/")
    ]
    columns = [*names, *others[:6]]
    width = max([len(row["run"]) for row in rows], default=3)
    print(" " * width, *(f"{name.replace('average_precision', 'ap'):>24}" for name in columns))
    for row in sorted(rows, key=lambda r: -(r.get(names[0]) or r.get(names[1]) or 0)):
        print(f"{row['run']:<{width}}", *(f"{_interval(row, name):>24}" for name in columns))


def _interval(row: dict[str, Any], name: str) -> str:
    if row.get(name) is None:
        return "not measured"
    if row.get(f"{name}_lo") is None:
        return f"{row[name]:.3f}"
    return f"{row[name]:.3f} [{row[f'{name}_lo']:.3f}, {row[f'{name}_hi']:.3f}]"
