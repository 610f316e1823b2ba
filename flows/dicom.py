"""Results as DICOM beside what a prediction writes else."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from flows.desk import Desk
from flows.home import Home
from flows.orders import orders_of
from tasks.archive.catalog import Case
from tasks.archive.choice import VolumeChoice, parse_choice
from tasks.errors import BadCase
from tasks.serve.result_files import DICOM_FOLDER
from tasks.serve.results import ModelFacts, PredictionRow


@dataclass(frozen=True)
class DicomDesk:
    """Who writes the DICOM results of one prediction."""

    home: Home
    desk: Desk
    facts: ModelFacts
    choice: VolumeChoice
    cases: Mapping[str, Case]
    seg: bool
    sr: bool

    def written(self, row: PredictionRow, mask: np.ndarray | None, out: Path) -> PredictionRow:
        """Write what is wanted of one case and return its row with the files' names."""
        if not (self.sr or (self.seg and mask is not None)):
            return row
        # Here, because a prediction without DICOM need not wait for highdicom.
        from tasks.serve.dicom_out import Maker, write_dicom

        case = self.cases[row.case_id]
        maker = Maker(self.home.names, self.facts, f"radloop {version('radloop')}")
        try:
            images = self._images(case, [self.cases[one] for one in row.beside])
            made = write_dicom(
                out / DICOM_FOLDER, row, images, maker, mask=mask, seg=self.seg, sr=self.sr
            )
        except BadCase as problem:
            return replace(row, no_dicom=problem.reason)
        except Exception as error:
            # Of one case; the others have theirs. Without the message, which could quote a header.
            return replace(row, no_dicom=f"failed:{type(error).__name__}")
        series = tuple((name, one.case_id) for name, one in case.series if case.kind == "dicom")
        written = {"seg": _inside(made.seg), "sr": _inside(made.sr), "series": series}
        return replace(row, **written, no_dicom=made.why_no_seg or None)

    def _images(self, case: Case, beside: Sequence[Case]) -> Any:
        """Return stand-ins for the images of a case, its other series and its study's views."""
        from tasks.archive.standin import stand_ins

        if case.kind != "dicom":
            return stand_ins(case, (), self.home.names, self.choice)
        (order,) = orders_of(self.desk, [case])
        images = stand_ins(case, order.files, self.home.names, self.choice)
        others: list[Any] = []
        more = [
            *zip(case.members[1:], order.series[1:], strict=False),
            *zip(beside, orders_of(self.desk, beside), strict=True),
        ]
        for one, its in more:
            others += stand_ins(one, its.files, self.home.names, self.choice).datasets
        return replace(images, others=tuple(others))

    def told(self, rows: Sequence[PredictionRow]) -> list[str]:
        """Say what was written as DICOM, and for how many cases something was not, and why."""
        counts = {
            "segmentations": sum(row.seg is not None for row in rows),
            "structured reports": sum(row.sr is not None for row in rows),
        }
        written = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        lines = [f"DICOM: {written}, under pseudonyms, in {DICOM_FOLDER}/"] if written else []
        reasons = Counter(row.no_dicom for row in rows if row.no_dicom)
        return lines + [f"not all DICOM of {n} cases: {why}" for why, n in reasons.items()]


def dicom_desk(
    home: Home,
    desk: Desk,
    outputs: Any,
    facts: ModelFacts,
    recipe: Mapping[str, Any] | None,
    chosen: Sequence[Case],
) -> DicomDesk:
    """Return who writes what a scenario's outputs ask for, for these cases.

    Parameters
    ----------
    home, desk : Home, Desk
        Whose pseudonyms, and who knows the cases' files.
    outputs : OutputConfig
    facts : ModelFacts
    recipe : mapping, optional
        The model's own; it says which volume of a series is judged.
    chosen : sequence of Case
    """
    choice = parse_choice((recipe or {}).get("volume"))
    known = {case.case_id: case for case in chosen}
    return DicomDesk(home, desk, facts, choice, known, outputs.seg, outputs.sr)


def _inside(path: Path | None) -> str | None:
    return None if path is None else f"{DICOM_FOLDER}/{path.name}"
