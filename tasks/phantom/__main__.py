"""Write an archive of synthetic patients: ``python -m tasks.phantom chest --out FOLDER``."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.phantom.fields import DIFFICULTIES
from tasks.phantom.processes import usable_cores
from tasks.phantom.write_brain import LAYOUTS, write_brain_archive
from tasks.phantom.write_breast import write_breast_archive
from tasks.phantom.write_chest import write_chest_archive
from tasks.phantom.write_wrist import write_wrist_archive

KINDS: dict[str, Callable[..., Path]] = {
    "chest": write_chest_archive,
    "brain": write_brain_archive,
    "wrist": write_wrist_archive,
    "breast": write_breast_archive,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, write the archive and say where its truth lies."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.phantom",
        description="Write SYNTHETIC patients as DICOM, with what there is to find in them.",
        epilog="No image shows a person. What is drawn and what is not: docs/phantoms.md.",
    )
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="same seed, same bytes (default 1)")
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="standard")
    parser.add_argument(
        "--shape",
        type=int,
        nargs="+",
        help="slices, rows and columns of chest and brain; rows and columns of wrist and breast",
    )
    parser.add_argument("--spacing", type=float, nargs="+", help="mm, as many as --shape has")
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="dicom", help="of the brain: DICOM, or BraTS's folders"
    )
    given = parser.parse_args(arguments)
    if given.patients < 1:
        parser.error(f"--patients is at least 1, not {given.patients}")
    options: dict[str, object] = {}
    if given.layout != "dicom":
        if given.kind != "brain":
            parser.error(f"--layout {given.layout} is for the brain, not for {given.kind}")
        options["layout"] = given.layout
    if given.kind == "brain":
        options["processes"] = usable_cores()
    axes = 3 if given.kind in {"chest", "brain"} else 2
    for name in ("shape", "spacing"):
        values = getattr(given, name)
        if values is None:
            continue
        if len(values) != axes or min(values) <= 0:
            parser.error(f"--{name} of {given.kind} is {axes} positive numbers, not {values}")
        options[name] = tuple(values)
    if given.kind == "wrist" and "spacing" in options:
        if len(set(given.spacing)) > 1:
            parser.error(
                f"--spacing of wrist is the same for rows and columns, not {given.spacing}"
            )
        options["spacing"] = given.spacing[0]
    table = KINDS[given.kind](
        given.out,
        patients=given.patients,
        seed=given.seed,
        difficulty=given.difficulty,
        **options,
    )
    print(f"{given.patients} synthetic patients in {given.out}; the truth begins at {table}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
