"""Results of an earlier prediction in a folder that a new one is written to.

Left there they would pass for results of the new model, and `radloop export --to dicom` would give
them back to patients it was not asked about. What the folder's own table says is no proof, though:
somebody may have changed it, and a file of theirs is not taken away because it is named there.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tasks.serve.findings_table import FINDINGS_CSV
from tasks.serve.result_files import FILES, is_result_file
from tasks.serve.results import INDEX_HTML, PREDICTIONS_CSV, PREDICTIONS_JSON, SOURCES_CSV

TABLES = (PREDICTIONS_CSV, FINDINGS_CSV, SOURCES_CSV, INDEX_HTML, PREDICTIONS_JSON)
"""The last one tells of all others, and so goes last."""

NAMED = 5
"""Files a sentence names; the others it counts."""


@dataclass(frozen=True)
class Earlier:
    """What was found of an earlier prediction."""

    cases: int = 0
    """How many cases its results were of."""
    left: tuple[str, ...] = ()
    """What its table names and a prediction does not call so, or not there: it was not touched."""

    def lines(self, out: Path) -> list[str]:
        """Say it."""
        said = []
        if self.cases:
            said.append(
                f"{out} held results of an earlier prediction ({self.cases} cases): taken away"
            )
        if self.left:
            more = len(self.left) - NAMED
            said.append(
                f"left as they are: {len(self.left)} files that {PREDICTIONS_JSON} named there and "
                f"that no prediction calls so: {', '.join(map(repr, self.left[:NAMED]))}"
                + (f" and {more} more" if more > 0 else "")
            )
        return said


def take_away(out: str | Path) -> Earlier:
    """Take away what an earlier prediction wrote into a folder, and nothing else.

    Parameters
    ----------
    out : path
        It need not exist, nor hold results.
    """
    out = Path(out)
    try:
        rows = json.loads((out / PREDICTIONS_JSON).read_text(encoding="utf-8"))["predictions"]
        named = [(row.get(name), name, row.get("case_id")) for row in rows for name in FILES]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Earlier()
    left = []
    for name, column, case_id in named:
        if not name:
            continue
        if is_result_file(name, column, case_id) and _lies_in(out, name):
            (out / name).unlink(missing_ok=True)
        else:
            left.append(str(name))
    for table in TABLES:
        (out / table).unlink(missing_ok=True)
    return Earlier(len(rows), tuple(left))


def _lies_in(out: Path, name: str) -> bool:
    """Return whether a name is of a file in the folder itself: a link may lead out of it."""
    place = out / name
    return not place.parent.is_symlink() and not place.is_dir()
