"""Intake: files of a source to facts in the catalog, again and again, each file accounted for."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from tasks.archive.database import writing
from tasks.archive.decathlon import nifti_facts, stem
from tasks.archive.deidentify import kept_facts
from tasks.archive.elements import Elements, quiet
from tasks.archive.headers import is_dicom, read_header
from tasks.archive.intake_items import Image, Item
from tasks.archive.intake_run import STAGE, Intake
from tasks.archive.labelsets import LabelRow, put_label_set
from tasks.archive.layouts import Layout, read_layout
from tasks.archive.mapped_intake import mapped_item, prepare
from tasks.archive.nameless import with_uids
from tasks.archive.pseudonyms import Pseudonymiser, is_placeholder
from tasks.archive.quarantine import insert_quarantine, quarantine_values
from tasks.archive.report import IntakeReport
from tasks.archive.rows import TableMapping
from tasks.archive.sources import Source, is_there
from tasks.archive.table_intake import ingest_table
from tasks.archive.textform import normalise
from tasks.archive.vault import put_source
from tasks.archive.vault_files import known_files
from tasks.archive.walk import Entry
from tasks.errors import BadCase
from tasks.hashing import digest_json

DECATHLON_LABELS = "decathlon"
"""Name of the label set made of a Decathlon folder's masks."""

_COMPANIONS = (
    ".csv .tsv .txt .md .rst .json .yaml .yml .xml .html .htm .css .js .log .pdf .doc .docx .xls "
    ".xlsx .ini .inf .cfg .exe .dll .bat .sh .py .lnk .url .db .parquet .csv.gz .md5 .sha256"
)
_COMPANION_SUFFIXES = tuple(_COMPANIONS.split(" "))
"""What stands beside images on disks and CDs; DICOM is told by content before names count."""

_IMAGE_FORMATS = {
    (".nii", ".nii.gz"): "a NIfTI file outside a folder with a dataset.json or mapping",
    (".nrrd", ".nhdr", ".mha", ".mhd"): "an NRRD or MetaImage file without a mapping",
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"): "a picture without header or mapping",
}


def ingest(
    source: Source,
    catalog: Engine,
    vault: Engine,
    names: Pseudonymiser,
    *,
    on_progress: Callable[[int, int | None], object] | None = None,
    retry: bool = False,
    mapping: TableMapping | None = None,
) -> IntakeReport:
    """Bring a source into the catalog; what is known and unchanged is not read again.

    Parameters
    ----------
    source : Source
        Folder, archive, Decathlon folder or table; registered in the vault by this call.
    catalog, vault : Engine
    names : Pseudonymiser
        Of the vault's project key.
    on_progress : callable, optional
        Called with (files seen, None).
    retry : bool
        Read files again that were quarantined, even when they are unchanged.
    mapping : TableMapping, optional
        For tables: which column is what. By default a ``<table>.mapping.json`` beside it, else
        the usual column names.

    Returns
    -------
    IntakeReport
        With ``accounted == seen``: one bad file never stops an intake.

    Raises
    ------
    FileNotFoundError
        The source's place is gone.
    ValueError
        A dataset.json or a mapping that cannot be obeyed.
    """
    if not is_there(source):
        raise FileNotFoundError(
            f"The place of the source {source.alias!r} is not there: mount it, or register it anew."
        )
    put_source(vault, source)
    run = Intake(source, catalog, vault, names, retry=retry, on_progress=on_progress)
    if source.kind == "table":
        return ingest_table(run, mapping)
    if source.kind != "decathlon":
        index = prepare(run)
        run.take(
            lambda entry, data: (
                mapped_item(run, index, entry, data) or _dicom_item(run, entry, data)
            )
        )
        return run.report()
    layout = read_layout(Path(source.location))
    run.take(lambda entry, data: _nifti_item(run, layout, entry, data))
    return run.report(label_set=_put_masks(run, layout))


def _dicom_item(run: Intake, entry: Entry, data: bytes) -> Item:
    if not is_dicom(data):
        return _other_item(entry, data)
    try:
        header = read_header(data, run.scanner)
    except BadCase as problem:
        if problem.reason == "dicomdir":
            return Item(entry, None, b"", "ignored")
        raise
    header = with_uids(header, run.source.alias, entry)
    names = run.names
    patient_key = run.patient_key(
        header.patient_id, header.issuer or run.source.alias, header.study_uid
    )
    study_key = run.key("study", header.study_uid)
    series_key = run.key("series", header.series_uid)
    accession = normalise(header.accession)
    accession_key = run.key("accession", accession) if accession else None
    patient_id = normalise(header.patient_id)
    patient_id = "" if is_placeholder(patient_id) else patient_id
    if patient_id:
        run.identify("patient", patient_key, patient_id)
    run.identify("study", study_key, header.study_uid)
    run.identify("series", series_key, header.series_uid)
    if accession_key:
        run.identify("accession", accession_key, accession)
    image = Image(
        series_key=series_key,
        study_key=study_key,
        patient_key=patient_key,
        accession_key=accession_key,
        kind="dicom",
        sop_key=names.key("sop", header.sop_uid),
        position=header.position,
        facts=_facts_later(header.elements, names),
        patient_id=patient_id,
    )
    return Item(entry, None, b"", "instance", image=image)


def _facts_later(elements: Elements, names: Pseudonymiser) -> Callable[[str], dict]:
    # Once a series and batch, not once a file: most of a header's cost is converting values.
    def facts(patient_key: str) -> dict:
        with quiet():
            return kept_facts(elements, names, patient_key)

    return facts


def _other_item(entry: Entry, data: bytes) -> Item:
    name = (entry.member or entry.path).rpartition("/")[2].lower()
    if name.startswith(".") or name.endswith(_COMPANION_SUFFIXES) or name.startswith("readme"):
        return Item(entry, None, b"", "ignored")
    if not data:
        raise BadCase("empty_file", "the file has no content")
    for suffixes, what in _IMAGE_FORMATS.items():
        if name.endswith(suffixes):
            raise BadCase("unsupported_format", f"{what} cannot be taken in")
    raise BadCase("not_dicom", "neither the DICOM mark nor a first element of a data set")


def _nifti_item(run: Intake, layout: Layout, entry: Entry, data: bytes) -> Item:
    listed = layout.images.get(entry.path)
    if listed is None and entry.path not in layout.masks:
        if is_dicom(data):
            raise BadCase("not_listed", "DICOM in a Decathlon folder: ingest it as its own folder")
        return _other_item(entry, data)
    facts = nifti_facts(data, listed and listed.modality)
    if listed is None:
        return Item(entry, None, b"", "label")
    if listed.sequence:
        facts["sequence"] = listed.sequence
    names, alias = run.names, run.source.alias
    patient_key = names.patient(listed.patient, alias, entry.path)
    series_key = _key(run, "series", entry.path)
    run.identify("patient", patient_key, listed.patient)
    run.identify("series", series_key, stem(entry.path))
    image = Image(
        series_key=series_key,
        study_key=_key(run, "study", listed.study or entry.path),
        patient_key=patient_key,
        accession_key=None,
        kind="nifti",
        sop_key=names.key("sop", f"{alias}|{entry.path}"),
        position=None,
        facts=lambda _: facts,
    )
    return Item(entry, None, b"", "instance", image=image)


def _key(run: Intake, kind: str, place: str) -> str:
    return run.names.key(kind, f"{run.source.alias}|{place}")


def _put_masks(run: Intake, layout: Layout) -> str | None:
    """Make the label set of all masks that are there; a listed file that is not is quarantined."""
    files = {path: known for (path, _), known in known_files(run.vault, run.source.alias).items()}
    missing = {p for p in (*layout.images, *layout.masks) if p not in files}
    if missing:
        with writing(run.catalog) as connection:
            row = quarantine_values(
                stage=STAGE,
                reason="listed_file_missing",
                detail=f"{len(missing)} files that dataset.json lists are not in the folder",
                source=run.source.alias,
            )
            insert_quarantine(connection, [row])
    rows, digests = [], []
    for mask, image in sorted(layout.masks.items()):
        known, of = files.get(mask), files.get(image)
        if known and of and known.outcome == "label" and of.outcome == "instance":
            key = _key(run, layout.join, layout.images[image].study or image)
            rows.append(LabelRow(layout.join, key, None, known.locator))
            digests.append([key, known.digest.hex()])
    if not rows:
        return None
    return put_label_set(
        run.catalog,
        name=DECATHLON_LABELS,
        source=run.source.alias,
        author="names" if layout.name == "brats" else "dataset.json",
        digest=digest_json(digests),
        rows=rows,
    )
