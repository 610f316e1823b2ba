"""What each command of `radloop` takes: one function a command, and their table at the end."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path


def _scenario(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", help="name of a scenario, or a scenario file")


def _optional_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", help="alias or place of the archive")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scenario", "--only", metavar="NAME", help="this demonstration, e.g. brain-tumour"
    )
    parser.add_argument(
        "--difficulty",
        choices=("easy", "standard", "hard"),
        help="of a --scenario's synthetic patients, others than it was made with",
    )


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


def _map(parser: argparse.ArgumentParser) -> None:
    from tasks.labels.formats import MAPPED

    parser.add_argument("layout", choices=MAPPED, help="which data set (docs/labels.md)")
    parser.add_argument("folder", type=Path, help="the folder that holds its tables")


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
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="another tool's answer for every test case. Classification: predictions.csv, whose "
        "first column names the case and whose others are p/CLASS, from 0 to 1. Segmentation: a "
        "mask NAME.nii.gz a case on the grid of its image, classes as 1, 2, ... in the order of "
        "the scenario. Detection: findings.csv, a row a box (docs/evaluation.md). A name is a case "
        "id, an accession number, a file's name or the name that `radloop export` gives",
    )
    what.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="only write the test cases under all these names as CSV, readable by you alone; "
        "does not use the edition",
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
    parser.add_argument(
        "--to",
        choices=["nifti", "nnunet", "dicom"],
        required=True,
        help="nifti, nnunet: volumes of the archive. dicom: results of `radloop predict`, given "
        "back the identity of their patients, for the hospital's own archive",
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="with --to dicom: what `radloop predict` wrote"
    )
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


ARGUMENTS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "demo": _demo,
    "ingest": _ingest,
    "source": _source,
    "status": _json,
    "quarantine": _quarantine,
    "new": _new,
    "map": _map,
    "check": _check,
    "preview": _preview,
    "plan": _stage,
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
