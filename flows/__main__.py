"""The `radloop` command: parse, find the home, call one function, print one sentence on error."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from flows.arguments import ARGUMENTS

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
        "prepare:source",
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
        "prepare:new",
        "look at catalog and labels and write a commented scenario",
        "radloop new lungs --labels labels.csv --source ct-archive",
    ),
    "map": (
        "prepare:map_images",
        "write the mapping (radloop-images.csv) of a public data set",
        "radloop map mura /data/MURA-v1.1",
    ),
    "check": (
        "prepare:check",
        "cohort funnel, balance, power, bytes and hours; starts nothing",
        "radloop check chest-xray",
    ),
    "preview": (
        "preview:preview",
        "contact sheet of some cases: what every step of the recipe does to them",
        "radloop preview chest-xray --cases 4",
    ),
    "plan": (
        "planning:plan",
        "recipe and networks as the training images make them; fits the recipe the first time",
        "radloop plan hippocampus",
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
        "write volumes as NIfTI or for nnU-Net; or results in DICOM, given back to their patients",
        "radloop export --to nifti --out nifti --source ct-archive",
    ),
    "features": (
        "features:features",
        "write what a scenario's recipe measured as a table, with IBSI codes and settings",
        "radloop features lungs --out lungs.csv",
    ),
    "split": (
        "prepare:split",
        "sides of a scenario's patients; open the next test edition",
        "radloop split chest-xray --new-edition",
    ),
    "schema": (
        "prepare:schema",
        "JSON schema of a scenario file",
        "radloop schema > scenario.json",
    ),
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
        ARGUMENTS.get(name, lambda _: None)(command)
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


if __name__ == "__main__":
    sys.exit(main())
