"""A radiograph with tokens in every place a name may stand, and a search for tokens in a home."""

import base64
import gzip
import io
import json
import re
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, Sequence
from pydicom.uid import ExplicitVRLittleEndian

from tasks.phantom.encode import encode_pixels, write_dataset
from tasks.phantom.limb import render
from tasks.phantom.write import draw_studies, limb_dataset

FOLDER = "Zqvorname_Zqnachname"
"""A folder of the archive is called after its patient, as on many a departmental disk."""

NAME = "Zqmüllerová"
PATIENT_ID = "ZQ-4711-0815"
ACCESSION = "ZQACC20817733"
OTHER_ID = "ZQOTHER99121"
BAD_SLOPE = "ZQSLOPE77"
"""As long as the number it replaces, so that the file stays whole."""

FREE_TEXT = (
    "ZQINSTITUTION", "ZQDEPARTMENT", "ZQREFERRER", "ZQOPERATOR", "ZQSTUDYTEXT", "ZQSERIESTEXT",
    "ZQCOMMENT", "ZQADDRESS", "ZQPHONENUM", "ZQREQUEST", "ZQPROTOCOL", "ZQPRIVATE", "ZQNESTED",
    "ZQSTATION", "ZQSERIAL", "ZQMODELNAME", "ZQMAKERNAME", "ZQBODYPART", "ZQVIEWPOS", "ZQCODEVAL",
    "ZQHISTORY",
)  # fmt: skip
"""One for each place of :func:`talkative`."""

TOKENS = (
    NAME, FOLDER, PATIENT_ID, ACCESSION, OTHER_ID, BAD_SLOPE, "1947-02-13", *FREE_TEXT,
)  # fmt: skip


def talkative(seed: int = 77) -> Dataset:
    """Return a radiograph whose header says too much, in groups, sequences and private elements."""
    study = draw_studies(seed, 0)[0]
    dataset = limb_dataset(study)
    encode_pixels(dataset, render(study.anatomy, study.shot), ExplicitVRLittleEndian)
    dataset.PatientName, dataset.PatientID = f"{NAME}^Käthe", PATIENT_ID
    dataset.IssuerOfPatientID = "ZQISSUER"
    dataset.OtherPatientIDs = OTHER_ID
    dataset.PatientBirthDate = "19470213"
    dataset.AccessionNumber = ACCESSION
    dataset.InstitutionName, dataset.InstitutionalDepartmentName = FREE_TEXT[0], FREE_TEXT[1]
    dataset.ReferringPhysicianName, dataset.OperatorsName = FREE_TEXT[2], FREE_TEXT[3]
    dataset.StudyDescription, dataset.SeriesDescription = FREE_TEXT[4], FREE_TEXT[5]
    dataset.ImageComments = f"seen with Dr. {FREE_TEXT[6]}\r\non the ward"
    dataset.PatientAddress, dataset.PatientTelephoneNumbers = FREE_TEXT[7], FREE_TEXT[8]
    request = Dataset()
    request.RequestedProcedureDescription = FREE_TEXT[9]
    request.AccessionNumber = ACCESSION
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = FREE_TEXT[19], FREE_TEXT[12]
    inner.CodingSchemeDesignator = "99ZQ"
    request.RequestedProcedureCodeSequence = Sequence([inner])
    dataset.RequestAttributesSequence = Sequence([request])
    dataset.ProtocolName = FREE_TEXT[10]
    block = dataset.private_block(0x0019, "ZQ CREATOR", create=True)
    block.add_new(0x01, "LO", FREE_TEXT[11])
    block.add_new(0x02, "UN", f"{NAME} {FREE_TEXT[11]}".encode())
    dataset.StationName, dataset.DeviceSerialNumber = FREE_TEXT[13], FREE_TEXT[14]
    dataset.ManufacturerModelName, dataset.Manufacturer = FREE_TEXT[15], FREE_TEXT[16]
    dataset.BodyPartExamined, dataset.ViewPosition = FREE_TEXT[17], FREE_TEXT[18]
    dataset.AdditionalPatientHistory = FREE_TEXT[20]
    return dataset


def write_talkative(archive: Path) -> list[str]:
    """Add two talkative studies to an archive, one of them unreadable, and label the first.

    The second has text where a number should stand, so that only the reading of its pixels fails:
    whatever that says goes through a worker's exception.

    Returns
    -------
    list of str
        UIDs of the two, which identify as well as a name does.
    """
    folder = archive / FOLDER
    first = talkative()
    write_dataset(folder / f"{NAME}.dcm", first)
    second = talkative(seed=78)
    second.RescaleSlope = "1.2345678"
    path = folder / "second.dcm"
    write_dataset(path, second)
    data = path.read_bytes()
    assert data.count(b"1.2345678") == 1
    path.write_bytes(data.replace(b"1.2345678", BAD_SLOPE.encode()))
    with (archive / "labels.csv").open("a", encoding="utf-8") as stream:
        stream.write(f"{ACCESSION},{PATIENT_ID},fracture\n")
        stream.write(f"{OTHER_ID},{PATIENT_ID},no_fracture\n")
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return [str(getattr(one, name)) for one in (first, second) for name in names]


@dataclass(frozen=True)
class Finding:
    """A token where it must not be."""

    where: str
    token: str
    form: str


def sweep(root: Path, tokens: tuple[str, ...], skip: tuple[str, ...] = ()) -> list[Finding]:
    """Look for tokens in every file below a folder, in their names, and in what is packed in them.

    Parameters
    ----------
    root : Path
    tokens : tuple of str
        Compared without regard to case, except inside base64.
    skip : tuple of str
        File names (not paths) that are allowed to hold them.
    """
    forms = [(token, form, data) for token in tokens for form, data in _forms(token)]
    found = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found += [Finding(name, t, "name") for t in tokens if t.lower() in name.lower()]
        if path.is_file() and not path.is_symlink() and path.name not in skip:
            found += sweep_bytes(name, path.read_bytes(), forms)
            found += _database_cells(path, name, tokens)
    return found


def sweep_bytes(
    where: str, data: bytes, forms: list[tuple[str, str, bytes]], depth: int = 0
) -> list[Finding]:
    """Look for the forms of tokens in bytes and, up to four times over, in what they unpack to."""
    lower = data.lower()
    found = [
        Finding(where, token, form)
        for token, form, wanted in forms
        if wanted in (data if form == "base64" else lower)
    ]
    if depth < 4:
        for name, inner in _unpacked(data):
            found += sweep_bytes(f"{where}!{name}", inner, forms, depth + 1)
    return found


def forms_of(tokens: tuple[str, ...]) -> list[tuple[str, str, bytes]]:
    """Return (token, form, bytes) for :func:`sweep_bytes`."""
    return [(token, form, data) for token in tokens for form, data in _forms(token)]


def _forms(token: str) -> Iterator[tuple[str, bytes]]:
    lower = token.lower()
    for encoding in dict.fromkeys(("utf-8", "utf-16-le", "utf-16-be")):
        # A name of plain letters in UTF-16 is lower-cased by bytes.lower() as well.
        yield encoding, lower.encode(encoding).lower()
    if not token.isascii():
        yield "latin-2", lower.encode("iso8859-2")
        yield "json", json.dumps(lower)[1:-1].encode()
        yield "python", lower.encode("ascii", "backslashreplace")
        # bytes.lower() leaves letters beyond ASCII as they are.
        yield "upper", lower.upper().encode().lower()
    raw = token.encode()
    yield "hex", raw.hex().encode()
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw)
        # Characters that share bits with a neighbour are unknown: cut them off on both sides.
        yield "base64", text[(0, 2, 3)[shift] : len(raw + b"\0" * shift) // 3 * 4]


def _unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    if data[:2] == b"\x1f\x8b":
        yield "gzip", _gunzip(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        yield "zstd", _unzstd(data)
    if data[:1] == b"\x78" and data[1:2] in b"\x01\x5e\x9c\xda":
        yield "zlib", _inflate(data)
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield "name", name.encode()
                yield name, archive.read(name)
    if data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                yield "name", member.name.encode()
                yield member.name, content.read() if content else b""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _png_texts(data)
    for number, packed in enumerate(re.findall(rb"base64,([A-Za-z0-9+/=]{40,})", data)):
        yield f"data-url{number}", base64.b64decode(packed + b"==")


def _gunzip(data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return b""


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return b""


def _unzstd(data: bytes) -> bytes:
    import imagecodecs

    try:
        return bytes(imagecodecs.zstd_decode(data))
    except imagecodecs.ZstdError:
        return b""


def _png_texts(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind == b"zTXt":
            yield "zTXt", _inflate(body.partition(b"\0")[2][1:])
        at += 12 + length


def _database_cells(path: Path, name: str, tokens: tuple[str, ...]) -> list[Finding]:
    """Look into every cell: in the file a long one is spread over pages and may be cut anywhere."""
    with path.open("rb") as stream:
        if stream.read(16) != b"SQLite format 3\0":
            return []
    forms = forms_of(tokens)
    found = []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        connection.text_factory = bytes
        tables = [row[0].decode() for row in connection.execute(
            "select name from sqlite_master where type = 'table'"
        )]  # fmt: skip
        for table in tables:
            for row in connection.execute(f'select * from "{table}"'):
                for cell in row:
                    if isinstance(cell, bytes) and len(cell) > 3:
                        found += sweep_bytes(f"{name}:{table}", cell, forms)
    finally:
        connection.close()
    return found
