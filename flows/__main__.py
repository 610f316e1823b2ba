"""The `radloop` command: parse, find the home, call one function, print one sentence on error."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

EPILOG = """\
examples:
  radloop demo                                     the whole loop on data the package brings
  radloop ingest /data/archive                     read an archive's headers into the catalog
  radloop new lungs --labels labels.csv            write a commented scenario from what is there
  radloop check lungs                              say what a run would do; starts nothing
  radloop retrain lungs --source /data/archive     archive to gated, registered model
  radloop predict lungs /data/new --out results    apply the champion to new images
"""

COMMANDS: dict[str, tuple[str, str, str]] = {
    # name: (module and function, one line, example)
    "demo": ("run:demo", "the whole loop on data the package brings", "radloop demo"),
    "doctor": (
        "serve:doctor",
        "look at this machine: each finding with its remedy",
        "radloop doctor",
    ),
    "ingest": (
        "run:ingest",
        "read archives into the catalog; nothing is copied, what is known is not read again",
        "radloop ingest /data/archive more.zip --labels-of lungs",
    ),
    "source": (
        "look:source",
        "name a source, so that flows and logs hold its alias and never its place",
        "radloop source add ct-archive /data/archive",
    ),
    "status": ("look:status", "patients, series, cases, parts, models", "radloop status --json"),
    "quarantine": (
        "look:quarantine",
        "what could not be used and why",
        "radloop quarantine --retry",
    ),
    "new": (
        "look:new",
        "look at catalog and labels and write a commented scenario",
        "radloop new lungs --labels labels.csv --source ct-archive",
    ),
    "check": (
        "look:check",
        "cohort funnel, balance, power, bytes and hours; starts nothing",
        "radloop check chest-xray",
    ),
    "preview": (
        "preview:preview",
        "contact sheet of some cases: what every step of the recipe does to them",
        "radloop preview chest-xray --cases 4",
    ),
    "preprocess": (
        "run:preprocess",
        "catalog to Zarr store; --refit fits the recipe anew, as a new generation beside the old",
        "radloop preprocess chest-xray",
    ),
    "train": ("run:train", "store to gated, registered model", "radloop train chest-xray"),
    "evaluate": (
        "run:evaluate",
        "score the champion, or predictions of any other tool, on the test edition",
        "radloop evaluate chest-xray --predictions other-tool/",
    ),
    "compare": (
        "look:compare",
        "runs of one scenario side by side; only of the same test edition",
        "radloop compare chest-xray",
    ),
    "retrain": (
        "run:retrain",
        "the whole loop: ingest, preprocess, train, gate, register",
        "radloop retrain chest-xray --source /data/chest-xray",
    ),
    "predict": (
        "run:predict",
        "apply the champion to new images",
        "radloop predict chest-xray /data/new --out results",
    ),
    "export": (
        "export:export",
        "write every volume of series on its own grid: NIfTI with BIDS-style sidecars, or nnU-Net",
        "radloop export --to nifti --out nifti --source ct-archive",
    ),
    "features": (
        "features:features",
        "write what a scenario's recipe measured as a table, with IBSI codes and settings",
        "radloop features lungs --out lungs.csv",
    ),
    "split": (
        "look:split",
        "sides of a scenario's patients; open the next test edition",
        "radloop split chest-xray --new-edition",
    ),
    "schema": ("look:schema", "JSON schema of a scenario file", "radloop schema > scenario.json"),
    "verify": (
        "look:verify",
        "read every part back and compare with its manifest; check the audit chain",
        "radloop verify",
    ),
    "gc": (
        "keep:gc",
        "say what of the store no run, model or scenario needs; removes it only with --yes",
        "radloop gc --compact --yes",
    ),
    "trace": ("look:trace", "what an id is and what refers to it", "radloop trace 3f9c2a"),
    "deploy": (
        "serve:deploy",
        "register deployments and schedules with Prefect",
        "radloop deploy chest-xray --source ct-archive",
    ),
    "ui": ("serve:ui", "both web pages; --stop ends this home's servers", "radloop ui"),
    "worker": ("serve:worker", "run scheduled flows until interrupted", "radloop worker"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for an error, 2 for usage."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    if problem := foreign_packages():
        print(problem, file=sys.stderr)
        return 1
    return _run(args)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; light, so that `--help` answers at once."""
    parser = argparse.ArgumentParser(
        prog="radloop",
        description="From an image archive to a gated, registered model and its predictions.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"radloop {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, summary, example) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--home", type=Path, help="the home to use (else RADLOOP_HOME, ...)")
        command.add_argument("--verbose", action="store_true", help="show what the engines log")
        _ARGUMENTS.get(name, lambda _: None)(command)
    return parser


def foreign_packages() -> str:
    """Return a sentence when `flows` or `tasks` are not radloop's own, else an empty text."""
    import flows
    import tasks

    try:
        distribution("radloop")
    except PackageNotFoundError:
        return (
            "radloop is not installed in this Python; run `make install` and use .venv/bin/radloop"
        )
    ours, theirs = Path(flows.__file__).parent.parent, Path(tasks.__file__).parent.parent
    if ours != theirs or not (ours / "tasks" / "hashing.py").exists():
        return (
            f"another package named `tasks` ({theirs / 'tasks'}) hides radloop's; "
            "run radloop in an environment of its own"
        )
    return ""


def _run(args: argparse.Namespace) -> int:
    from tasks.errors import RadloopError

    module, function = COMMANDS[args.command][0].split(":")
    try:
        command = getattr(importlib.import_module(f"flows.commands.{module}"), function)
        return command(args) or 0
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 1
    except (RadloopError, ValueError, OSError) as error:
        if args.verbose:
            raise
        print(f"radloop: {_one_sentence(error)}", file=sys.stderr)
        return 1


def _one_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _version() -> str:
    try:
        return version("radloop")
    except PackageNotFoundError:
        return "(not installed)"


def _scenario(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", help="name of a scenario, or a scenario file")


def _optional_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", help="alias or place of the archive")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenario", help="only this one of the demo's scenarios")


def _ingest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="folder, .zip, .tar, s3://, table, alias"
    )
    parser.add_argument("--labels-of", metavar="SCENARIO", help="join this scenario's label table")
    parser.add_argument("--retry", action="store_true", help="read quarantined files again")


def _source(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="register a source")
    add.add_argument("alias")
    add.add_argument("place")
    shown = actions.add_parser("list", help="registered sources, without their places")
    for action in (add, shown):
        # Also after the action; without SUPPRESS its default would undo the one given before it.
        action.add_argument("--home", type=Path, default=argparse.SUPPRESS, help="home to use")


def _quarantine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--retry", action="store_true", help="read quarantined files again")
    parser.add_argument(
        "--files",
        type=Path,
        metavar="FILE",
        help="write which files these are as CSV, readable by you alone (places name patients)",
    )
    _json(parser)


def _new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("--labels", required=True, type=Path, help="label table (CSV)")
    _optional_source(parser)


def _check(parser: argparse.ArgumentParser) -> None:
    _scenario(parser)
    _optional_source(parser)
    _json(parser)


def _preview(parser: argparse.ArgumentParser) -> None:
    _stage(parser)
    parser.add_argument("--cases", type=_at_least_one, default=4, help="how many (default 4)")
    parser.add_argument(
        "--out", type=Path, help="page to write (default: previews/SCENARIO.html in the home)"
    )


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} cases are none: give 1 or more")
    return number


def _stage(parser: argparse.ArgumentParser) -> None:
    _scenario(parser)
    _optional_source(parser)


def _preprocess(parser: argparse.ArgumentParser) -> None:
    _stage(parser)
    parser.add_argument(
        "--refit", action="store_true", help="fit the recipe on today's training patients"
    )


def _gc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--compact", action="store_true", help="also merge small parts")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="only say it (the default)")
    what.add_argument("--yes", action="store_true", help="do it")
    _json(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    _stage(parser)
    parser.add_argument(
        "--predictions", type=Path, help="folder with predictions.csv of another tool"
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    _scenario(parser)
    parser.add_argument("--edition", type=int, help="test edition; the newest by default")
    _json(parser)


def _retrain(parser: argparse.ArgumentParser) -> None:
    _stage(parser)
    parser.add_argument(
        "--force", action="store_true", help="train although the trigger is not met"
    )


def _predict(parser: argparse.ArgumentParser) -> None:
    _scenario(parser)
    parser.add_argument("source", help="alias or place of the images")
    parser.add_argument("--out", required=True, type=Path, help="folder for the results")
    parser.add_argument("--no-sources", action="store_true", help="do not write sources.csv")


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", choices=["nifti", "nnunet"], required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--series", nargs="*", help="series keys; all of the source by default")
    parser.add_argument(
        "--straighten",
        action="store_true",
        help="put tilted and uneven stacks on an upright, even grid instead of refusing them",
    )
    _optional_source(parser)


def _features(parser: argparse.ArgumentParser) -> None:
    _scenario(parser)
    parser.add_argument(
        "--out", required=True, type=Path, help="CSV to write; its columns are explained in a .json"
    )


def _split(parser: argparse.ArgumentParser) -> None:
    _scenario(parser)
    parser.add_argument("--new-edition", action="store_true", help="open the next test edition")


def _trace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="first characters of a case, part, series or other id")
    _json(parser)


def _deploy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scenario", nargs="*", help="scenarios to schedule; all that ship by default"
    )
    _optional_source(parser)


def _ui(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stop", action="store_true", help="end this home's servers")


def _worker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", default="radloop", help="work pool to serve")
    parser.add_argument("--limit", type=int, default=1, help="flow runs at once")


_ARGUMENTS = {
    "demo": _demo,
    "ingest": _ingest,
    "source": _source,
    "status": _json,
    "quarantine": _quarantine,
    "new": _new,
    "check": _check,
    "preview": _preview,
    "preprocess": _preprocess,
    "train": _stage,
    "evaluate": _evaluate,
    "compare": _compare,
    "retrain": _retrain,
    "predict": _predict,
    "export": _export,
    "features": _features,
    "split": _split,
    "gc": _gc,
    "trace": _trace,
    "deploy": _deploy,
    "ui": _ui,
    "worker": _worker,
}


if __name__ == "__main__":
    sys.exit(main())
