"""Results of an earlier prediction in a folder that a new one is written to.

Left there they would pass for results of the new model, and `radloop export --to dicom` would give
them back to patients it was not asked about.
"""

import json
from pathlib import Path, PurePosixPath

from tasks.serve.findings_table import FINDINGS_CSV
from tasks.serve.results import INDEX_HTML, PREDICTIONS_CSV, PREDICTIONS_JSON, SOURCES_CSV

OF_A_CASE = ("overlay", "mask", "seg", "sr")
"""Columns of a row that name a file."""

TABLES = (PREDICTIONS_CSV, FINDINGS_CSV, SOURCES_CSV, INDEX_HTML, PREDICTIONS_JSON)
"""The last one tells of all others, and so goes last."""


def take_away(out: str | Path) -> int:
    """Take away what an earlier prediction wrote into a folder, and nothing else.

    Parameters
    ----------
    out : path
        It need not exist, nor hold results.

    Returns
    -------
    int
        How many cases these were of.
    """
    out = Path(out)
    try:
        rows = json.loads((out / PREDICTIONS_JSON).read_text(encoding="utf-8"))["predictions"]
        named = [row.get(column) for row in rows for column in OF_A_CASE]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0
    for place in (*filter(None, named), *TABLES):
        pure = PurePosixPath(str(place))
        # A table may say anything; only what lies in the folder is ours.
        if not pure.is_absolute() and ".." not in pure.parts:
            (out / pure).unlink(missing_ok=True)
    return len(rows)
