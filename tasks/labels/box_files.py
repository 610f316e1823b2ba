"""Files of boxes: whose each box is, and which cases a file says were looked at."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tasks.archive.tablefile import TableFile, join_problem, number, read_table
from tasks.labels import luna16, rsna_pneumonia
from tasks.labels.boxes import CaseBox, box_in_patient, box_of_picture
from tasks.labels.coco import read_coco
from tasks.labels.config import BOX_COLUMNS, LabelConfig
from tasks.labels.public import ReadFile, flag, records
from tasks.labels.tables import key_column_of

PIXELS = ("xmin", "ymin", "xmax", "ymax")
PIXELS_DEEP = ("zmin", "zmax")
MIDDLE = ("x", "y", "z")
SIZES = ("size_x", "size_y", "size_z")
DIAMETER = "diameter_mm"
IRRELEVANT = "irrelevant"


@dataclass(frozen=True)
class BoxEntry:
    """A line that speaks of a case: a box, or that somebody looked at it."""

    line: int
    keys: tuple[str, ...] = field(repr=False)
    """What may name the case, the likeliest first."""
    box: CaseBox | None


@dataclass(frozen=True)
class FileBoxes:
    """What one file says."""

    file: str
    data: bytes = field(repr=False)
    entries: tuple[BoxEntry, ...]
    problems: tuple[tuple[int, str, tuple[str, ...]], ...] = ()
    """(line, reason, keys) of what cannot be used; its cases are left out whole."""


def read_boxes(config: LabelConfig, read: ReadFile) -> list[FileBoxes]:
    """Return what the files of a configuration say.

    Raises
    ------
    ValueError
        A file is not what its format says; names file, line and remedy.
    FileNotFoundError, OSError
        As ``read``.
    """
    found = _READERS[config.format](config, read)
    if config.normals and config.normals != "rest":
        found.append(_normals(config, read))
    return found


def _table(config: LabelConfig, read: ReadFile) -> list[FileBoxes]:
    data = read(config.file)
    table = read_table(data, config.file)
    at = {name: config.columns.get(name, name) for name in BOX_COLUMNS}
    wrong = [name for name in config.columns.values() if name not in table.columns]
    if wrong:
        table.column(wrong[0])
    key_at = table.column(config.key_column or key_column_of(table, config.join))
    class_at = table.column(config.column) if config.column else None
    box_of = _form(config, table, at)
    entries, problems = [], [(line, reason, ()) for line, reason in table.problems]
    for line, values in table.rows:
        key, row = values[key_at], dict(zip(table.columns, values, strict=True))
        if problem := join_problem(config.join, key):
            problems.append((line, problem, ()))
            continue
        name = config.classes[0] if class_at is None else values[class_at]
        try:
            entries.append(BoxEntry(line, (key,), box_of(row, name)))
        except ValueError as error:
            problems.append((line, str(error), (key,)))
    return [FileBoxes("boxes", data, tuple(entries), tuple(problems))]


def _form(
    config: LabelConfig, table: TableFile, at: Mapping[str, str]
) -> Callable[[Mapping[str, str], str], CaseBox | None]:
    """Return what makes a box of a row, by the columns that are there."""
    names = {name for name in BOX_COLUMNS if at[name] in table.columns}
    world = config.coordinates != "pixel"
    sizes = (DIAMETER,) if DIAMETER in names else SIZES
    deep = not world and bool(names & {*PIXELS_DEEP})
    wanted = (*MIDDLE, *sizes) if world else (*PIXELS, *(PIXELS_DEEP if deep else ()))
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(
            f"The table of boxes has no column {at[missing[0]]!r}; boxes in {config.coordinates} "
            f"coordinates are told by {', '.join(wanted)}, and it has: {', '.join(table.columns)}. "
            "Say under labels.columns which column means which, or set labels.coordinates."
        )

    def box_of(row: Mapping[str, str], name: str) -> CaseBox | None:
        texts = [row[at[one]] for one in wanted]
        if not any(texts):
            return None
        if name not in config.classes:
            raise ValueError(f"the class of its box is none of {', '.join(config.classes)}")
        numbers = [number(text, table.decimal_comma) for text in texts]
        if None in numbers:
            raise ValueError("a number of its box is none")
        away = flag(row.get(at[IRRELEVANT], ""), blank=False)
        if world:
            return _world(name, numbers, config.coordinates, irrelevant=away)
        return _pixels(name, numbers, irrelevant=away)

    return box_of


def _pixels(name: str, numbers: Sequence[float], *, irrelevant: bool) -> CaseBox:
    """Return a box of corners that count pixel i from i to i + 1, as COCO does."""
    left, top, right, bottom, *deep = numbers
    first, last = deep or (0.0, 1.0)
    corners = (first, top, left, last, bottom, right)
    return CaseBox(name, "px", tuple(value - 0.5 for value in corners), irrelevant)


def _world(name: str, numbers: Sequence[float], coordinates: str, *, irrelevant: bool) -> CaseBox:
    x, y, z, *sizes = numbers
    if min(sizes) <= 0:
        raise ValueError("its box has a side that is not above 0 mm")
    sign = -1.0 if coordinates == "ras" else 1.0
    ball = len(sizes) == 1
    dx, dy, dz = sizes * 3 if ball else sizes
    edges = (0.0, 0.0, dz, 0.0, dy, 0.0, dx, 0.0, 0.0)
    return CaseBox(name, "mm", (sign * x, sign * y, z, *edges), irrelevant, ball=ball)


def _luna16(config: LabelConfig, read: ReadFile) -> list[FileBoxes]:
    """Nodules that count, and the findings that count for nothing where their file is there."""
    found = []
    for file in (luna16.ANNOTATIONS, luna16.EXCLUDED):
        try:
            data = read(file)
        except FileNotFoundError:
            if file == luna16.ANNOTATIONS:
                raise
            continue
        boxes = luna16.nodules(data, file)
        _same_class(config, {"nodule"})
        entries = (BoxEntry(box.line, (box.series,), box_in_patient(box)) for box in boxes)
        found.append(FileBoxes(file, data, tuple(entries)))
    return found


def _rsna_pneumonia(config: LabelConfig, read: ReadFile) -> list[FileBoxes]:
    data = read(rsna_pneumonia.TABLE)
    _same_class(config, {"opacity"})
    boxes = {box.line: box for box in rsna_pneumonia.boxes(data)}
    rows = records(data, rsna_pneumonia.TABLE, ("patientId",))
    entries = (
        BoxEntry(line, (row["patientId"],), box_of_picture(boxes[line]) if line in boxes else None)
        for line, row in rows
    )
    return [FileBoxes(rsna_pneumonia.TABLE, data, tuple(entries))]


def _coco(config: LabelConfig, read: ReadFile) -> list[FileBoxes]:
    data = read(config.file)
    content = read_coco(data)
    _same_class(config, set(content.categories))
    entries, names = [], _names_of(tuple(content.images))
    for number_of, (file, keys) in enumerate(names.items(), start=1):
        entries.append(BoxEntry(number_of, keys, None))
        for box, crowd in content.images[file]:
            if box.name in config.classes:
                made = box_of_picture(box, irrelevant=crowd, size=content.sizes.get(file))
                entries.append(BoxEntry(box.line, keys, made))
    problems = tuple((line, why, names[file]) for line, why, file in content.problems)
    return [FileBoxes("COCO", data, tuple(entries), problems)]


def _names_of(files: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what an archive may call each image: its path, its file, or its name alone.

    What two images share names neither: ``a/1.png`` and ``b/1.png`` are no one's 1.
    """
    names = {
        file: tuple(dict.fromkeys((file, PurePosixPath(file).name, PurePosixPath(file).stem)))
        for file in files
    }
    count = Counter(name for own in names.values() for name in own)
    return {
        file: (file, *(name for name in own[1:] if count[name] == 1)) for file, own in names.items()
    }


def _fracatlas(config: LabelConfig, read: ReadFile) -> list[FileBoxes]:
    """Boxes of the set's COCO file; an image its table calls whole has none."""
    from tasks.labels.fracatlas import CLASSES, class_labels

    (found,) = _coco(config, read)
    (said,) = class_labels(read)
    named = {key for one in found.entries for key in one.keys}
    whole = (
        BoxEntry(row.line, (row.key,), None)
        for row in said.table.rows
        if row.value == CLASSES[0] and row.key not in named
    )
    return [found, FileBoxes(said.file, said.data, tuple(whole))]


def _grazpedwri(config: LabelConfig, read: ReadFile) -> list[FileBoxes]:
    from tasks.labels.grazpedwri import boxes_of_files

    data, entries, problems = boxes_of_files(read, config.classes)
    made = tuple(
        BoxEntry(line, (key,), None if said is None else CaseBox(said[0], "share", said[1]))
        for line, key, said in entries
    )
    return [FileBoxes("labels", data, made, problems)]


_READERS: Mapping[str, Callable[[LabelConfig, ReadFile], list[FileBoxes]]] = {
    "boxes": _table,
    "coco": _coco,
    "luna16": _luna16,
    "fracatlas_boxes": _fracatlas,
    "grazpedwri_boxes": _grazpedwri,
    "rsna_pneumonia_boxes": _rsna_pneumonia,
}


def _normals(config: LabelConfig, read: ReadFile) -> FileBoxes:
    """Read the table of cases in which nothing is to be found: its column of keys is enough."""
    data = read(config.normals)
    table = read_table(data, config.normals)
    at = table.column(config.key_column or key_column_of(table, config.join))
    entries, problems = [], [(line, reason, ()) for line, reason in table.problems]
    for line, values in table.rows:
        if problem := join_problem(config.join, values[at]):
            problems.append((line, problem, ()))
        else:
            entries.append(BoxEntry(line, (values[at],), None))
    return FileBoxes("normals", data, tuple(entries), tuple(problems))


def _same_class(config: LabelConfig, known: set[str]) -> None:
    if missing := [name for name in config.classes if name not in known]:
        raise ValueError(
            f"The file of boxes has no class {missing[0]!r}; it has {', '.join(sorted(known))}. "
            "Name those under labels.classes."
        )
