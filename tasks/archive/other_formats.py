"""Images that are not DICOM to volumes: pictures, NIfTI, NRRD and MetaImage."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.archive.mapping import spacing_of
from tasks.archive.nifti import read_nifti
from tasks.archive.sources import FileRef, is_row, read_bytes
from tasks.errors import BadCase

if TYPE_CHECKING:
    from tasks.archive.grids import Grid
    from tasks.archive.volume import Volume

KINDS = ("nifti", "nrrd", "mha", "picture")
"""Kinds of case that are read here."""

HEADERS = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings of files that say how voxels are stored; another file of the case holds voxels."""


def read_other(kind: str, files: Sequence[FileRef]) -> "Volume":
    """Read a case that is not DICOM.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    files : sequence of FileRef
        In any order: the image, for a ``.nhdr`` or ``.mhd`` the file of its voxels, and for mapped
        sources its line of the mapping.

    Returns
    -------
    Volume
        A picture is one slice on its image plane; NRRD and MetaImage keep their own voxel order,
        with the LPS affine their header states, or the image plane when it states none.

    Raises
    ------
    BadCase
        The case cannot be used.
    ValueError
        Another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be 'dicom' or one of {', '.join(KINDS)}, got {kind!r}")
    lines = [ref for ref in files if is_row(ref.path, ref.member)]
    images = [ref for ref in files if not is_row(ref.path, ref.member)]
    if not images:
        raise BadCase("listed_file_missing", "the mapping names a file that is not there")
    if kind in ("nrrd", "mha"):
        return _read_grid(kind, images)
    if len(images) != 1:
        raise BadCase("several_images", f"{len(images)} {kind} files in one case; one belongs")
    if kind == "nifti":
        return read_nifti(images[0])
    from tasks.archive.picture import read_picture

    spacing = spacing_of(read_bytes(lines[0])) if lines else None
    return read_picture(read_bytes(images[0]), spacing)


def _read_grid(kind: str, images: list[FileRef]) -> "Volume":
    from tasks.archive.grids import volume_of

    heads = [ref for ref in images if _name(ref).lower().endswith(HEADERS)]
    if len(heads) != 1:
        raise BadCase("several_images", f"{len(heads)} headers of volumes in one case; one belongs")
    head = read_bytes(heads[0])
    grid = header_of(kind, head)
    if grid.data_file is None:
        return volume_of(grid, head)
    # Only a file that was taken in with the header is opened, whatever the header names.
    beside = [ref for ref in images if _name(ref) == grid.data_file]
    if not beside:
        raise BadCase("data_file_missing", "the header names a file of voxels that is not there")
    return volume_of(grid, read_bytes(beside[0]))


def header_of(kind: str, data: bytes) -> "Grid":
    """Read the header of an NRRD or MetaImage file.

    Raises
    ------
    BadCase
        As the readers of both formats.
    """
    if kind == "nrrd":
        from tasks.archive.nrrd import read_header
    else:
        from tasks.archive.metaimage import read_header
    return read_header(data)


def _name(ref: FileRef) -> str:
    return (ref.member or ref.path).rpartition("/")[2]
