"""How fast voxels come out of each kind of source, for the plan.

Measured by `benchmarks/bench_sources.py`: whole cases from their files to real units, one core.
"""

from collections.abc import Mapping

from tasks.archive.codecs import JPEG, JPEG_LS, RLE
from tasks.archive.pixel_format import NATIVE

SLOWEST = 9_000
"""Voxels one core reads in a millisecond where nothing is known: JPEG 2000, and HTJ2K like it."""

OF_SYNTAX: Mapping[str, int] = (
    dict.fromkeys(NATIVE, 160_000)
    | dict.fromkeys(JPEG, 50_000)
    | dict.fromkeys(JPEG_LS, 33_000)
    | {RLE: 80_000}
)
"""The same by transfer syntax; one that is not here is taken for the slowest."""

OF_KIND: Mapping[str, int] = {
    "nifti": 60_000,
    "nrrd": 60_000,
    "mha": 60_000,
    "picture": 33_000,
}
"""The same of other formats, taken for packed ones: whether they are is not catalogued."""


def voxels_ms(kind: str, syntax: object) -> int:
    """Return the voxels of a case that one core reads in a millisecond.

    Parameters
    ----------
    kind : str
        Of the case.
    syntax : str or None
        Transfer syntax UID of one file of a DICOM series, which stands for all of them.
    """
    if kind == "dicom":
        return OF_SYNTAX.get(syntax, SLOWEST)
    return OF_KIND.get(kind, SLOWEST)
