"""Commands that look and answer at once; only a retry of the quarantine starts a server."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.commands.start import open_home
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
