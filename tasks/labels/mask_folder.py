"""Masks in a folder, each called after the accession, study, series or patient it belongs to.

The files stay where they are. Their folder becomes a source of its own in the vault, since masks of
a hospital's archive lie beside it and not in it; the catalog gets pseudonyms and locators alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.archive.catalog import LabelRow
from tasks.archive.mapping import KINDS, kind_suffix
from tasks.archive.sources import Source, digest_of
from tasks.archive.vault import put_source
from tasks.archive.vault_files import FileSeen, put_files
from tasks.labels.case_mask import SLICER
from tasks.labels.lidc import parse_lidc
from tasks.labels.rtstruct import is_structure_set, series_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

SEG_SUFFIX = ".dcm"
"""Of a DICOM segmentation."""

GRIDS = ("nifti", "nrrd", "mha")
"""Kinds of files that hold a label map."""


@dataclass(frozen=True)
class MaskFile:
    """One mask: its name without the ending, which names its case, and its content's digest."""

    name: str
    file: str
    size: int
    mtime_ns: int
    digest: bytes


def mask_files(source: Source, folder: str, *, slicer: bool = False) -> list[MaskFile]:
    """Return the masks in a folder, by name.

    Parameters
    ----------
    source : Source
        Whose cases they belong to.
    folder : str
        Relative to the source's folder, or absolute.
    slicer : bool
        Whether the masks are files of 3D Slicer's segments.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or no mask in it; the message does not repeat the place.
    """
    ending_of = _slicer_ending if slicer else _ending
    endings = SLICER if slicer else ".nii, .nii.gz, .nrrd, .mha or, of DICOM SEG, .dcm"
    place = masks_source(source, folder)
    found = []
    for path in sorted(Path(place.location).glob("*")):
        if (ending := ending_of(path.name)) and path.is_file() and not path.is_symlink():
            name = path.name[: -len(ending)]
            found.append(_seen(name, path.name, path, path.read_bytes()))
    if not found:
        raise FileNotFoundError(
            f"The folder of masks that the scenario names holds none, or is not there, for the "
            f"source {source.alias!r}: give its `file` relative to the source, or as an absolute "
            f"path; masks end in {endings}."
        )
    return found


def lidc_files(
    source: Source, folder: str
) -> tuple[list[tuple[int, MaskFile]], list[tuple[int, str]]]:
    """Return LIDC's XML files below a folder, named after the series they speak of.

    Returns
    -------
    list of (place among the files, MaskFile)
    list of (place, reason)
        Those that speak of no CT.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or no XML in it; the message does not repeat the place.
    """
    place = masks_source(source, folder)
    files = list(enumerate(sorted(Path(place.location).rglob("*.xml")), start=1))
    if not files:
        raise _none_of("LIDC's XML", source)
    return _named_after_series(place, files, lambda data: parse_lidc(data).series)


def structure_files(
    source: Source, folder: str
) -> tuple[list[tuple[int, MaskFile]], list[tuple[int, str]]]:
    """Return the structure sets below a folder, named after the series each was drawn on.

    They may lie among the images: by their first bytes all other DICOM is left aside, and so is
    what is no DICOM, unless its name ends in .dcm.

    Returns
    -------
    list of (place among the structure sets, MaskFile)
    list of (place, reason)
        Those that name no one series, or cannot be read.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or no structure set in it; the message does not repeat the place.
    """
    place = masks_source(source, folder)
    sets, damaged = [], []
    for path in sorted(Path(place.location).rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        is_one = is_structure_set(path)
        if is_one is False or (is_one is None and not path.name.lower().endswith(SEG_SUFFIX)):
            continue
        line = len(sets) + len(damaged) + 1
        if is_one:
            sets.append((line, path))
        else:
            damaged.append((line, "the file ends in .dcm and is no DICOM file: export it anew"))
    if not (sets or damaged):
        raise _none_of("structure sets", source)
    found, problems = _named_after_series(place, sets, series_of)
    return found, problems + damaged


def masks_source(source: Source, folder: str) -> Source:
    """Return the folder of masks as a source of its own."""
    root = Path(source.location)
    root = root if root.is_dir() else root.parent
    place = (root / Path(folder).expanduser()).resolve()
    return Source(f"{source.alias}-masks"[:63], "folder", str(place))


def mask_rows(
    source: Source, folder: str, join: str, keyed: Sequence[tuple[MaskFile, str]], vault: "Engine"
) -> list[LabelRow]:
    """Return the label rows of masks whose keys are known, and where they lie in the vault."""
    place = masks_source(source, folder)
    put_source(vault, place)
    files = [
        FileSeen(one.file, "", one.size, one.mtime_ns, one.digest, "label") for one, _ in keyed
    ]
    locators = put_files(vault, place.alias, files)
    return [
        LabelRow(join, key, None, locator)
        for (_, key), locator in zip(keyed, locators, strict=True)
    ]


def _named_after_series(
    place: Source, files: Iterable[tuple[int, Path]], series: Callable[[bytes], str]
) -> tuple[list[tuple[int, MaskFile]], list[tuple[int, str]]]:
    """Return files after the series their content names, and why others name none."""
    found, problems = [], []
    for line, path in files:
        data, file = path.read_bytes(), path.relative_to(place.location).as_posix()
        try:
            found.append((line, _seen(series(data), file, path, data)))
        except ValueError as error:
            problems.append((line, str(error)))
    return found, problems


def _none_of(what: str, source: Source) -> FileNotFoundError:
    return FileNotFoundError(
        f"The folder of {what} that the scenario names holds none, or is not there, for the source "
        f"{source.alias!r}: give its `file` relative to the source, or as an absolute path."
    )


def _seen(name: str, file: str, path: Path, data: bytes) -> MaskFile:
    return MaskFile(name, file, len(data), path.stat().st_mtime_ns, digest_of(data))


def _slicer_ending(name: str) -> str:
    return SLICER if name.lower().endswith(SLICER) else ""


def _ending(name: str) -> str:
    if name.lower().endswith(SEG_SUFFIX):
        return SEG_SUFFIX
    ending = kind_suffix(name)
    return ending if KINDS.get(ending) in GRIDS else ""
