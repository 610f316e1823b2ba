"""The whole commit path, from cases to the catalog's row, as a program that can be stopped."""

import sys
from pathlib import Path

from tasks.archive.catalog import open_catalog
from tasks.archive.commits import PartRow, commit_part, put_recipe, want_cases
from tasks.store import staging
from tasks.store.commit import remove
from tasks.store.write import PartRecord
from tests.store.making import FIXED, RECIPE, case_name, prepared, write

CASES = 2


def prepare_catalog(path: Path) -> None:
    """Make a catalog that wants the cases and holds no part."""
    catalog = open_catalog(f"sqlite:///{path}")
    put_recipe(catalog, RECIPE, "drawn", {"a": 1}, "fit")
    want_cases(catalog, RECIPE, [case_name(number) for number in range(CASES)])
    catalog.dispose()


def make(folder: Path, layout: str) -> PartRecord:
    """Write the part below ``folder/store`` and commit it to ``folder/catalog.db``.

    Each case that is produced leaves a line in ``folder/log``.
    """
    fixed = FIXED if layout == "packed" else None

    def produce(case_id: str):
        with (folder / "log").open("a") as stream:
            stream.write(case_id + "\n")
        return prepared(case_id, fixed)

    record = write(folder / "store", CASES, fixed, produce)
    catalog = open_catalog(f"sqlite:///{folder / 'catalog.db'}")
    try:
        commit_part(catalog, row_of(record), record.failures)
    finally:
        catalog.dispose()
    return record


def row_of(record: PartRecord) -> PartRow:
    """Return the catalog's row of an image part."""
    return PartRow(
        part_id=record.part_id,
        kind=record.kind,
        recipe_id=RECIPE,
        label_set_id=None,
        image_part_id=None,
        path=record.path,
        case_ids=record.case_ids,
        bytes=record.bytes,
        digest=record.digest,
    )


def main() -> None:
    """Run as ``commit_program FOLDER LAYOUT`` or ``commit_program ROOT remove PATH``."""
    # strace counts the calls of each thread by itself: the n-th of all is known only in one thread.
    staging.SYNCERS = 1
    if sys.argv[2] == "remove":
        remove(sys.argv[1], sys.argv[3])
    else:
        make(Path(sys.argv[1]), sys.argv[2])


if __name__ == "__main__":
    main()
