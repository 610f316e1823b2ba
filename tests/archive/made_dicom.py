"""DICOM files made in code: whole ones, and ones broken in the ways that archives break them."""

import struct
import zlib
from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498.7"


def header(number: int = 1, *, series: int = 1, patient: str = "P1", **more) -> Dataset:
    """One 4x4 CT slice; `more` sets or, with None, deletes elements by keyword."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{ROOT}.3.{series}.{number}"
    ds.SeriesInstanceUID = f"{ROOT}.2.{series}"
    ds.StudyInstanceUID = f"{ROOT}.1.{series}"
    ds.PatientID = patient
    ds.PatientName = "Planted^Name"
    ds.AccessionNumber = f"ACC{series:05d}"
    ds.StudyDate = "20200115"
    ds.Modality = "CT"
    ds.ImagePositionPatient = [0, 0, 2.5 * number]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.5, 0.75]
    ds.Rows = ds.Columns = 4
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.SamplesPerPixel = 1
    ds.PixelRepresentation = 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = bytes(range(32))
    for keyword, value in more.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def encode(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The file of a data set: preamble, file meta, by default explicit VR little endian."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CTImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.99")
    stream = BytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


def slice_file(number: int = 1, **more) -> bytes:
    return encode(header(number, **more))


def without_preamble(ds: Dataset) -> bytes:
    """Only the data set, implicit VR: what old archives send."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, True
    write_dataset(stream, ds)
    return stream.getvalue()


def nested(depth: int) -> bytes:
    """A slice with sequences inside each other."""
    inner = Dataset()
    inner.CodeValue = "1"
    for _ in range(depth):
        outer = Dataset()
        outer.ConceptNameCodeSequence = Sequence([inner])
        inner = outer
    ds = header()
    ds.AnatomicRegionSequence = Sequence([inner])
    return encode(ds)


def deflated(ds: Dataset, extra: int = 0) -> bytes:
    """A file whose data set is a zlib stream, with `extra` zero bytes behind the pixels."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, ds)
    padding = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, extra) + bytes(extra)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = packer.compress(stream.getvalue() + padding) + packer.flush()
    syntax = b"1.2.840.10008.1.2.1.99"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return bytes(128) + b"DICM" + length + meta + body
