"""The public data sets whose labels a scenario may name by format, and their images' mapping."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType

from tasks.archive.mapping import FACTS, OPTIONAL
from tasks.labels import busi, fracatlas, grazpedwri, luna16, mura, rsna_pneumonia
from tasks.labels.public import FileLabels, ImageLine, ReadFile

LAYOUTS: Mapping[str, ModuleType] = MappingProxyType(
    {
        "mura": mura,
        "fracatlas": fracatlas,
        "grazpedwri": grazpedwri,
        "busi": busi,
        "luna16": luna16,
        "rsna_pneumonia": rsna_pneumonia,
    }
)
"""Format -> its module: ``class_labels`` where cases have a class, ``images`` where files need a
mapping."""


def read_labels(layout: str, read: ReadFile) -> list[FileLabels]:
    """Return what each file of a layout says of its cases.

    Raises
    ------
    ValueError
        A file is not what the layout says.
    FileNotFoundError, OSError
        As ``read``.
    """
    return LAYOUTS[layout].class_labels(read)


def mapping_text(layout: str, folder: Path) -> tuple[str, list[ImageLine]]:
    """Return the ``radloop-images.csv`` of a folder in one of the layouts `MAPPED`.

    Raises
    ------
    ValueError
        A table of the layout is not what it should be, or no image is listed.
    FileNotFoundError
        A table of the layout is not in the folder; the message does not repeat the place.
    """

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"The folder holds no {name}, which the layout {layout} has at its root: give the "
                "folder that holds it."
            ) from None

    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file())
    lines = LAYOUTS[layout].images(read, files)
    if not lines:
        raise ValueError(f"The tables of the layout {layout} list no image: unpack them anew.")
    more = sorted({name for line in lines for name in line.facts} - {*FACTS, *OPTIONAL})
    columns = ["file", "patient", "study", "accession", "spacing", *FACTS, *more]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        named = {"file": line.file, "patient": line.patient, "study": line.study}
        writer.writerow(named | {"accession": line.accession} | dict(line.facts))
    return text.getvalue(), lines
