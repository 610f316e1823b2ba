"""Pictures and volumes with a mapping into the catalog, under the same keys as everything else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from tasks.archive.catalog import drop_instances
from tasks.archive.database import LOOKUP_ROWS, chunks
from tasks.archive.decathlon import nifti_facts
from tasks.archive.headers import is_dicom
from tasks.archive.intake_items import Image, Item
from tasks.archive.intake_run import Intake
from tasks.archive.kept import KEPT_FIELDS
from tasks.archive.mapping import (
    DETACHED,
    MAX_MAPPING_BYTES,
    MappedRow,
    kind_suffix,
    parse_mapping_table,
)
from tasks.archive.other_formats import header_of
from tasks.archive.pseudonyms import is_placeholder
from tasks.archive.sources import MAPPING_NAME, Source, digest_of, read_named
from tasks.archive.tables import instances, series
from tasks.archive.textform import normalise
from tasks.archive.vault_files import FileSeen, KnownFile, known_files, put_files
from tasks.archive.walk import MAPPED, Entry, storable
from tasks.errors import BadCase

POSITIONS = {"image": 0.0, "voxels": 1.0, "line": 2.0}
"""Order of a case's files, in the column where slices of DICOM series keep millimetres."""


@dataclass(frozen=True)
class MappedIndex:
    """A mapping with what its files turned out to be."""

    rows: Mapping[str, MappedRow]
    voxels: Mapping[str, str]
    """File of voxels -> the .nhdr or .mhd that names it."""
    voxels_of: Mapping[str, str]
    """The same, the other way round."""
    found: dict[str, dict[str, Any] | BadCase] = field(default_factory=dict)
    """Facts of a listed file, or why it cannot be used; filled while files are read."""


def prepare(run: Intake) -> MappedIndex | None:
    """Read the mapping of a source, if it has one, and find whose files must be read again.

    A line that changed says something else of the same picture; so its files are read again
    although they did not change themselves.

    Raises
    ------
    ValueError
        The mapping is no table, or lacks a column.
    """
    if run.source.kind not in MAPPED:
        return None
    try:
        data = read_named(run.source, MAPPING_NAME, MAX_MAPPING_BYTES)
    except FileNotFoundError:
        return None
    rows = parse_mapping_table(data).rows
    voxels = _voxel_files(run.source, rows)
    index = MappedIndex(rows, voxels, {header: path for path, header in voxels.items()})
    known = known_files(run.vault, run.source.alias)
    holders = _series_of(run, [file.locator for file in known.values()])
    for row in rows.values():
        keys = _keys_of(row, index)
        states = [known.get(key) for key in keys]
        if any(states) and not _is_as_before(run, row, states, holders):
            run.reread.update(keys)
    # Its lines are what is known of it, and not the table itself.
    run.reread.add((MAPPING_NAME, ""))
    _let_go(run, index, known)
    return index


def mapped_item(run: Intake, index: MappedIndex | None, entry: Entry, data: bytes) -> Item | None:
    """Return what a file of a mapped source is, or None when no mapping speaks of it.

    Raises
    ------
    BadCase
        It cannot be used.
    """
    if index is None:
        return None
    if entry.path == MAPPING_NAME and entry.member:
        row = index.rows.get(entry.member)
        if row is None:
            raise BadCase("file_changed", "the mapping changed while it was read: ingest again")
        return _item(run, entry, row, _facts_by_name(run, index, row), "line")
    if row := index.rows.get(entry.path):
        index.found[row.file] = found = _facts_or_problem(row, data)
        return _item(run, entry, row, found, "image")
    if header := index.voxels.get(entry.path):
        row = index.rows[header]
        return _item(run, entry, row, _facts_by_name(run, index, row), "voxels")
    return None


def _item(
    run: Intake, entry: Entry, row: MappedRow, found: dict[str, Any] | BadCase, part: str
) -> Item:
    if isinstance(found, BadCase):
        raise found
    names, alias = run.names, run.source.alias
    patient_key = names.patient(row.patient, alias, f"{alias}|{row.study or row.file}")
    accession = normalise(row.accession or row.file)
    keys = {
        "series": _series_key(run, row),
        "study": names.key("study", f"{alias}|{row.study or row.file}"),
        "accession": names.key("accession", accession),
    }
    patient = "" if is_placeholder(normalise(row.patient)) else normalise(row.patient)
    if patient:
        run.identify("patient", patient_key, patient)
    for kind, value in (("series", row.file), ("study", row.study or row.file)):
        run.identify(kind, keys[kind], value)
    run.identify("accession", keys["accession"], accession)
    image = Image(
        series_key=keys["series"],
        study_key=keys["study"],
        patient_key=patient_key,
        accession_key=keys["accession"],
        kind=row.kind,
        sop_key=names.key("sop", f"{keys['series']}|{POSITIONS[part]:g}"),
        position=POSITIONS[part],
        facts=lambda _: found,
        patient_id=patient,
    )
    return Item(entry, None, b"", "instance", image=image)


def _series_key(run: Intake, row: MappedRow) -> str:
    """Return the pseudonym of a line's series; another patient or study makes another series."""
    parts = (run.source.alias, row.file, row.patient, row.study, row.accession)
    return run.names.key("series", "|".join(f"{len(part)}|{part}" for part in parts))


def _facts_by_name(run: Intake, index: MappedIndex, row: MappedRow) -> dict[str, Any] | BadCase:
    """Return a listed file's facts, reading it when the walk did not pass it yet."""
    if row.file not in index.found:
        try:
            index.found[row.file] = _facts_or_problem(row, read_named(run.source, row.file))
        except FileNotFoundError:
            detail = f"line {row.line} names a file that is not in the source"
            index.found[row.file] = BadCase("listed_file_missing", detail)
        except OSError as error:
            detail = f"reading it failed: {type(error).__name__}"
            index.found[row.file] = BadCase("unreadable_file", detail)
    return index.found[row.file]


def _facts_or_problem(row: MappedRow, data: bytes) -> dict[str, Any] | BadCase:
    try:
        if not data:
            raise BadCase("empty_file", "the file has no content")
        if is_dicom(data):
            raise BadCase(
                "unusable_row", f"line {row.line} names DICOM, which says itself whose it is"
            )
        facts = _READERS[row.kind](row, data)
    except BadCase as problem:
        return problem
    return dict.fromkeys(KEPT_FIELDS) | facts | dict(row.facts)


def _picture(row: MappedRow, data: bytes) -> dict[str, Any]:
    from tasks.archive.picture import facts_of, picture_facts

    spacing_row, spacing_col = row.spacing or (None, None)
    return facts_of(picture_facts(data)) | {"spacing_row": spacing_row, "spacing_col": spacing_col}


def _nifti(row: MappedRow, data: bytes) -> dict[str, Any]:
    return nifti_facts(data, None)


def _grid(row: MappedRow, data: bytes) -> dict[str, Any]:
    grid = header_of(row.kind, data)
    if grid.data_file is None and grid.packing == "raw":
        held = len(data) - max(grid.start, 0)
        if held < grid.n_bytes:
            raise BadCase("truncated", f"{held} of {grid.n_bytes} bytes of voxels; send it again")
    frames, rows, columns = grid.shape
    facts = {"frames": frames, "rows": rows, "cols": columns, "photometric": "MONOCHROME2"}
    if grid.stated:
        facts |= {"spacing_col": grid.spacings[0], "spacing_row": grid.spacings[1]}
        facts["slice_thickness"] = grid.spacings[2] if len(grid.spacings) > 2 else None
    return facts


_READERS: Mapping[str, Callable[[MappedRow, bytes], dict[str, Any]]] = {
    "picture": _picture,
    "nifti": _nifti,
    "nrrd": _grid,
    "mha": _grid,
}


def _voxel_files(source: Source, rows: Mapping[str, MappedRow]) -> dict[str, str]:
    """Return the files of voxels that listed headers name, all in the folder of their header."""
    voxels: dict[str, str] = {}
    for row in rows.values():
        if not row.file.lower().endswith(DETACHED):
            continue
        try:
            name = header_of(row.kind, read_named(source, row.file)).data_file
        except (BadCase, OSError):
            # The walk meets the header again and says what is wrong with it.
            continue
        folder = row.file.rpartition("/")[0]
        if name and "/" not in name and "\\" not in name and name not in (".", ".."):
            voxels.setdefault(f"{folder}/{name}" if folder else name, row.file)
    return voxels


def _keys_of(row: MappedRow, index: MappedIndex) -> list[tuple[str, str]]:
    """Return (path, member) of a line's files: the line, the image, and its voxels."""
    files = [row.file, *([index.voxels_of[row.file]] if row.file in index.voxels_of else [])]
    return [(MAPPING_NAME, storable(row.file)), *((storable(file), "") for file in files)]


def _is_as_before(
    run: Intake, row: MappedRow, states: list[KnownFile | None], holders: Mapping[int, str]
) -> bool:
    """Tell whether all files of a line are in its series and the line says what it said."""
    key = _series_key(run, row)
    if not all(state and holders.get(state.locator) == key for state in states):
        return False
    return states[0].digest == digest_of(row.content)


def _series_of(run: Intake, locators: list[int]) -> dict[int, str]:
    """Return the series that files are instances of, by locator."""
    found: dict[int, str] = {}
    query = select(instances.c.locator, series.c.series_key).join_from(instances, series)
    with run.catalog.connect() as connection:
        for chunk in chunks(sorted(locators), LOOKUP_ROWS):
            rows = connection.execute(query.where(instances.c.locator.in_(chunk)))
            found.update((locator, key) for locator, key in rows)
    return found


def _let_go(run: Intake, index: MappedIndex, known: Mapping[tuple[str, str], KnownFile]) -> None:
    """Take lines that left the mapping, and files that are no longer listed, out of the catalog."""
    listed = {storable(file) for file in index.rows}
    gone = {
        (path, member): file
        for (path, member), file in known.items()
        if path == MAPPING_NAME and member not in listed and file.outcome == "instance"
    }
    drop_instances(run.catalog, [file.locator for file in gone.values()])
    put_files(
        run.vault,
        run.source.alias,
        [
            FileSeen(path, member, file.size, file.mtime_ns, file.digest, "ignored")
            for (path, member), file in gone.items()
        ],
    )
    # The files themselves are met by the walk, which finds nothing that speaks of them any more.
    run.reread.update(
        (path, member)
        for (path, member), file in known.items()
        if file.outcome == "instance"
        and not member
        and path not in listed
        and path not in index.voxels
        and kind_suffix(path)
    )
