"""A folder of CT slices whose headers are as long and as varied as a scanner's, for the benchmarks.

131 elements before the pixels: four sequences, three private blocks (one of 1.8 kB), 23 elements
that differ from slice to slice.  The pixels of an archive made here are a hole in the file: they
cost no disk, and no reader of headers looks at them; `image_bytes` gives a file with pixels.
"""

import os
import random
import struct
import warnings
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498."
PIXEL_BYTES = 512 * 512 * 2
SLICES = 120

_OF_SERIES = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
    "InstanceCreationDate": "20200115",
    "SOPClassUID": CTImageStorage,
    "StudyDate": "20200115",
    "SeriesDate": "20200115",
    "AcquisitionDate": "20200115",
    "ContentDate": "20200115",
    "StudyTime": "101500",
    "SeriesTime": "101502",
    "Modality": "CT",
    "Manufacturer": "SIEMENS",
    "InstitutionName": "St. Elsewhere",
    "InstitutionAddress": "1 Long Street",
    "ReferringPhysicianName": "Doe^Jane",
    "StationName": "CT01",
    "StudyDescription": "Thorax",
    "SeriesDescription": "Thorax 1.0 B30f",
    "InstitutionalDepartmentName": "Radiology",
    "ManufacturerModelName": "Sensation 64",
    "IrradiationEventUID": ROOT + "77",
    "PatientName": "Roe^Richard",
    "PatientBirthDate": "19500101",
    "PatientSex": "M",
    "PatientAge": "070Y",
    "PatientWeight": "80",
    "PatientSize": "1.8",
    "BodyPartExamined": "CHEST",
    "ScanOptions": "HELIX",
    "SliceThickness": "1",
    "KVP": "120",
    "DataCollectionDiameter": "500",
    "DeviceSerialNumber": "12345",
    "SoftwareVersions": "syngo CT 2012B",
    "ProtocolName": "Thorax",
    "ReconstructionDiameter": "350",
    "DistanceSourceToDetector": "1040",
    "DistanceSourceToPatient": "570",
    "GantryDetectorTilt": "0",
    "TableHeight": "150",
    "RotationDirection": "CW",
    "ExposureTime": "500",
    "FilterType": "FLAT",
    "GeneratorPower": "30",
    "FocalSpots": "1.2",
    "DateOfLastCalibration": "20200115",
    "TimeOfLastCalibration": "070000",
    "ConvolutionKernel": "B30f",
    "PatientPosition": "HFS",
    "SingleCollimationWidth": 0.6,
    "TotalCollimationWidth": 38.4,
    "TableSpeed": 46.0,
    "TableFeedPerRotation": 23.0,
    "SpiralPitchFactor": 1.2,
    "CTDIvol": 7.1,
    "ContrastBolusAgent": "APPLIED",
    "ContrastBolusVolume": "80",
    "ContrastFlowRate": "3",
    "EstimatedDoseSaving": 1.0,
    "StudyID": "1",
    "SeriesNumber": "3",
    "AcquisitionNumber": "2",
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "FrameOfReferenceUID": ROOT + "5",
    "PositionReferenceIndicator": "",
    "ImageComments": "",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "Rows": 512,
    "Columns": 512,
    "PixelSpacing": ["0.68359375", "0.68359375"],
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
    "SmallestImagePixelValue": 0,
    "BurnedInAnnotation": "NO",
    "WindowCenter": ["40", "-600"],
    "WindowWidth": ["400", "1200"],
    "RescaleIntercept": "-1024",
    "RescaleSlope": "1",
    "RescaleType": "HU",
    "WindowCenterWidthExplanation": ["WINDOW1", "WINDOW2"],
    "RequestingPhysician": "Doe^John",
    "RequestedProcedureDescription": "CT Thorax",
    "PerformedProcedureStepStartDate": "20200115",
    "PerformedProcedureStepStartTime": "101400",
    "PerformedProcedureStepID": "1",
}


def make_archive(folder: Path, series: int) -> list[str]:
    """Write so many series of 120 slices and return their paths in order."""
    paths = []
    for number in range(series):
        place = folder / f"{number:05d}"
        place.mkdir(parents=True)
        for slice_number in range(1, SLICES + 1):
            path = str(place / f"IM{slice_number:06d}.dcm")
            with open(path, "wb") as stream:
                stream.write(header_bytes(number, slice_number))
            os.truncate(path, os.path.getsize(path) + PIXEL_BYTES)
            paths.append(path)
    return paths


def header_bytes(series: int, number: int) -> bytes:
    """Return the file of one slice up to its pixels."""
    ds = _dataset(series, number, ExplicitVRLittleEndian)
    ds.PixelData = b""
    return _written(ds)[:-4] + struct.pack("<I", PIXEL_BYTES)


def image_bytes(series: int, number: int, syntax: str, pixels: bytes, **other: object) -> bytes:
    """Return the file of one slice.

    Parameters
    ----------
    series, number : int
        As in `make_archive`.
    syntax : str
        Transfer syntax UID.
    pixels : bytes
        Little endian words, or of another syntax than Explicit VR Little Endian one coded frame.
    **other : object
        Elements that differ from those of a 512 x 512 slice, by keyword.
    """
    ds = _dataset(series, number, syntax)
    for keyword, value in other.items():
        setattr(ds, keyword, value)
    native = syntax == ExplicitVRLittleEndian
    ds.PixelData = pixels if native else encapsulate([pixels])
    ds["PixelData"].VR = "OW" if native else "OB"
    ds["PixelData"].is_undefined_length = not native
    return _written(ds)


def _dataset(series: int, number: int, syntax: str) -> Dataset:
    ds = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in _OF_SERIES.items():
            setattr(ds, keyword, value)
    _name(ds, series, number)
    _vary(ds, number)
    _add_sequences(ds)
    _add_private(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return ds


def _written(ds: Dataset) -> bytes:
    stream = BytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


def _name(ds: Dataset, series: int, number: int) -> None:
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}1.{series}", f"{ROOT}2.{series}"
    ds.SOPInstanceUID = f"{ROOT}4.{series}.{number * 7919}"
    ds.PatientID, ds.AccessionNumber = f"P{series:06d}", f"A{series:07d}"


def _vary(ds: Dataset, number: int) -> None:
    ds.InstanceCreationTime = f"101530.12{number:04d}"
    ds.AcquisitionTime = ds.ContentTime = f"1015{number % 60:02d}.{number * 331 % 1_000_000:06d}"
    ds.XRayTubeCurrent, ds.Exposure = str(80 + number % 40), str(60 + number % 50)
    ds.InstanceNumber = str(number)
    ds.ImagePositionPatient = ["-175.5", "-160.25", f"{number - 300.0:.2f}"]
    ds.SliceLocation = f"{number - 300.0:.2f}"
    ds.LargestImagePixelValue = 2000 + number


def _add_sequences(ds: Dataset) -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = ROOT + "9.9"
    ds.ReferencedImageSequence = Sequence([reference, reference])
    ds.SourceImageSequence = Sequence([reference])
    code, request = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113014", "DCM", "Study"
    request.ScheduledProtocolCodeSequence = Sequence([code])
    request.RequestedProcedureID = "2"
    ds.RequestAttributesSequence = Sequence([request])
    ds.RequestAttributesSequence.is_undefined_length = True


def _add_private(ds: Dataset) -> None:
    block = ds.private_block(0x0019, "SIEMENS CT VA0  COAD", create=True)
    for place in range(0x90, 0x9C):
        block.add_new(place, "DS", str(place * 3))
    block = ds.private_block(0x0021, "SIEMENS MED", create=True)
    for place in range(0x10, 0x18):
        block.add_new(place, "LO", f"value {place}")
    block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x08, "CS", "SOM 5")
    block.add_new(0x10, "OB", random.Random(1).randbytes(1800))
