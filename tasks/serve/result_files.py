"""How a prediction calls the files of a case: written by that name, and taken away by no other."""

import re
from types import MappingProxyType

DICOM_FOLDER = "dicom"

FILES = MappingProxyType(
    {
        "overlay": "overlays/{}.png",
        "mask": "masks/{}.nii.gz",
        "seg": f"{DICOM_FOLDER}/{{}}_seg.dcm",
        "sr": f"{DICOM_FOLDER}/{{}}_sr.dcm",
    }
)
"""Column of a result's row to the file it names, below the output folder, after the case."""

_CASE_ID = re.compile(r"[0-9a-f]{32}")


def result_file(column: str, case_id: str) -> str:
    """Return the name of a case's file, below the output folder."""
    return FILES[column].format(case_id)


def is_result_file(name: object, column: str, case_id: object) -> bool:
    """Return whether a name in a column is the one that a prediction gives a file of this case."""
    known = isinstance(case_id, str) and _CASE_ID.fullmatch(case_id)
    return bool(known) and name == result_file(column, case_id)
