"""The way home: a result under pseudonyms becomes one of its patient's, beside the original images.

Only here is an identity put back, and only from the headers of the very images the result was made
of: patient, sex, accession, study and every image it names must be theirs, else nothing is made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from tasks.archive.catalog import Case
from tasks.archive.elements import quiet
from tasks.archive.headers import read_header
from tasks.archive.pixels import read_dataset
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.series import guarded
from tasks.archive.sources import FileRef, read_bytes
from tasks.archive.standin import ACCESSION_CHARACTERS, MADE_UP, METHOD, pseudonymous_uid
from tasks.archive.textform import normalise
from tasks.errors import BadCase

SERIES_FROM = 9000
"""Least series number of a result; those of scanners are below."""

OF_THE_PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""What is taken over from the original: patient and study, as an archive files by them."""

_MARKS = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "LongitudinalTemporalInformationModified",
)


@dataclass(frozen=True)
class Originals:
    """The images of one case as the hospital knows them; identified."""

    identity: Dataset
    """Patient and study of the first image."""
    sexes: frozenset[str]
    patients: frozenset[str]
    """Pseudonyms of all patients its images name; one, or the case is not one patient's."""
    accessions: frozenset[str]
    uids: dict[str, str]
    """Pseudonymous UID -> original UID, of study, series, images and frames of reference."""
    case_id: str = ""
    """By which pseudonymous results call the case."""

    def __repr__(self) -> str:
        return f"Originals({len(self.uids)} uids)"


def read_originals(
    case: Case, files: Sequence[FileRef], names: Pseudonymiser, alias: str
) -> Originals:
    """Read the headers of a case's images.

    Parameters
    ----------
    case : Case
    files : sequence of FileRef
        Their digests are compared: changed images are not those the result was made of.
    names : Pseudonymiser
    alias : str
        Of the source: it stands for the issuer of patient ids that have none.

    Raises
    ------
    BadCase
        A file is not there, was changed or cannot be read.
    """
    uids: dict[str, str] = {}
    sexes, patients, accessions = set(), set(), set()
    identity = Dataset()
    for ref in files:
        data = read_bytes(ref)
        header = read_header(data)
        with guarded():
            original = read_dataset(data)
            if not len(identity):
                identity = _identity(original)
            sexes.add(str(original.get("PatientSex") or "").strip().upper())
            reference = str(original.get("FrameOfReferenceUID") or "")
        patient = names.patient(header.patient_id, header.issuer or alias, header.study_uid)
        patients.add(patient)
        accession = normalise(header.accession)
        accessions.add(names.key("accession", accession) if accession else "")
        uids[pseudonymous_uid(names.key("sop", header.sop_uid))] = header.sop_uid
        for key, uid in ((case.study_key, header.study_uid), (case.series_key, header.series_uid)):
            if key and uid:
                uids[pseudonymous_uid(key)] = uid
        # An image without a frame of reference lends a result none: its made-up one stays.
        frame = pseudonymous_uid(names.key("frame", reference or str(case.series_key)))
        uids[frame] = reference or frame
    return Originals(
        identity, frozenset(sexes), frozenset(patients), frozenset(accessions), uids, case.case_id
    )


def together(parts: Sequence[Originals], case_id: str) -> Originals:
    """Return the images of a case of several series, from those of each, the reference first."""
    uids: dict[str, str] = {}
    for one in parts:
        uids |= one.uids
    return Originals(
        parts[0].identity,
        frozenset().union(*(one.sexes for one in parts)),
        frozenset().union(*(one.patients for one in parts)),
        frozenset().union(*(one.accessions for one in parts)),
        uids,
        case_id,
    )


def reidentify(result: Dataset, originals: Originals, names: Pseudonymiser) -> Dataset:
    """Put the original identity back into one result.

    Parameters
    ----------
    result : Dataset
        As `tasks.serve.dicom_out` wrote it; changed in place.
    originals : Originals
        Of the case it is about.
    names : Pseudonymiser

    Returns
    -------
    Dataset
        The result with patient, study and references as in the originals. Every other UID, and
        the case id in its texts, is new: none leads to the pseudonymous ones without the project
        key.

    Raises
    ------
    BadCase
        ``not_a_result``, or ``other_patient``, ``other_sex``, ``other_accession``, ``other_study``
        or ``other_images`` when it is not about these images. Nothing is changed then.
    """
    if problem := _mismatch(result, originals):
        raise BadCase(problem)
    own = {uid for uid in _made_uids(result) if uid not in originals.uids}
    renamed = {uid: pseudonymous_uid(names.key("result", f"identified|{uid}")) for uid in own}
    case_id = names.key("result", f"identified|{originals.case_id}")
    _rename(result, originals.uids | renamed, {originals.case_id: case_id})
    for name in _MARKS:
        if name in result:
            delattr(result, name)
    # One set that has letters for every name; the original's may be another.
    result.SpecificCharacterSet = "ISO_IR 192"
    for name in OF_THE_PATIENT:
        if name in originals.identity:
            setattr(result, name, originals.identity[name].value)
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    return result


def read_result(path: str | Path) -> Dataset:
    """Read one result from a file.

    Raises
    ------
    BadCase
        ``not_a_result``.
    """
    try:
        with quiet():
            return dcmread(path)
    except (InvalidDicomError, OSError, ValueError):
        raise BadCase("not_a_result", "it cannot be read as DICOM") from None


def _identity(original: Dataset) -> Dataset:
    """Return patient and study, decoded: their bytes are in the original's character set."""
    found = Dataset()
    original.decode()
    for name in OF_THE_PATIENT:
        value = original.get(name)
        setattr(found, name, "" if value is None else str(value))
    if not found.IssuerOfPatientID:
        del found.IssuerOfPatientID
    return found


def _mismatch(result: Dataset, originals: Originals) -> str:
    """Return the first thing in which a result is not about the originals, or nothing."""
    if result.get("DeidentificationMethod") != METHOD or _number(result) < SERIES_FROM:
        return "not_a_result"
    told_accession = str(result.get("AccessionNumber") or "")
    accessions = {key[:ACCESSION_CHARACTERS] for key in originals.accessions}
    told_sex = str(result.get("PatientSex") or "")
    sexes = {sex if sex in ("M", "F", "O") else "" for sex in originals.sexes}
    checks = (
        ("other_patient", originals.patients == {str(result.get("PatientID"))}),
        ("other_sex", sexes == {told_sex}),
        ("other_accession", accessions == {told_accession}),
        ("other_study", str(result.get("StudyInstanceUID")) in originals.uids),
        ("other_images", _images(result) <= originals.uids.keys()),
    )
    return next((problem for problem, holds in checks if not holds), "")


def _number(result: Dataset) -> int:
    try:
        return int(result.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        return 0


def _images(result: Dataset) -> set[str]:
    """Return UIDs of the images, and of their frame of reference, that a result names."""
    named = {
        uid
        for item, uid in _named(result, "ReferencedSOPInstanceUID")
        if str(item.get("ReferencedSOPClassUID")) not in _RESULT_CLASSES
    }
    for name in ("FrameOfReferenceUID", "ReferencedFrameOfReferenceUID"):
        named |= {uid for _, uid in _named(result, name)}
    return named


def _made_uids(dataset: Dataset) -> Iterator[str]:
    """Yield every UID that was made up here: of instances, series, findings that are tracked."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _made_uids(item)
        elif element.VR == "UI" and str(element.value).startswith(MADE_UP):
            yield str(element.value)


_RESULT_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.88.33",
        "1.2.840.10008.5.1.4.1.1.88.34",
    }
)
"""Segmentation, Comprehensive SR and Comprehensive 3D SR: results may name each other."""


def _named(dataset: Dataset, name: str) -> Iterator[tuple[Dataset, str]]:
    """Yield every item that has an element of that name, at any depth, with its value."""
    if name in dataset:
        yield dataset, str(dataset[name].value)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _named(item, name)


def _rename(dataset: Dataset, uids: dict[str, str], texts: dict[str, str]) -> None:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _rename(item, uids, texts)
        elif element.VR == "UI" and isinstance(element.value, str) and element.value in uids:
            element.value = uids[element.value]
        elif element.VR != "UI" and isinstance(element.value, str):
            for told, other in texts.items():
                if told and told in element.value:
                    element.value = element.value.replace(told, other)
