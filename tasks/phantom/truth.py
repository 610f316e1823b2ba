"""Tables of what is true of a synthetic archive, beside it."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_tables(folder: Path, tables: Mapping[str, Sequence[Sequence[object]]]) -> None:
    """Write tables as ``NAME.csv`` into a folder that is made; first rows name the columns."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
