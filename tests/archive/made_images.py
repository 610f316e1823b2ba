"""Files of one frame around an array, and the reasons they are refused for."""

import numpy as np
import pytest
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
)

from tasks.archive.sources import FileRef
from tasks.errors import BadCase
from tasks.phantom.encode import encode_pixels, write_dataset


def image(array, *, bits_stored=None, modality="DX", photometric="MONOCHROME2", **elements):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.SOPInstanceUID = "2.25.77"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.77"
    dataset.Modality, dataset.PhotometricInterpretation = modality, photometric
    dataset.Rows, dataset.Columns = array.shape[:2]
    dataset.SamplesPerPixel = 3 if array.ndim == 3 else 1
    dataset.BitsAllocated = array.dtype.itemsize * 8
    dataset.BitsStored = bits_stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    if array.ndim == 3:
        dataset.PlanarConfiguration = 0
    for name, value in elements.items():
        setattr(dataset, name, value)
    encode_pixels(dataset, array, ExplicitVRLittleEndian)
    return dataset


def ramp(dtype=np.uint16, top=4095):
    return (np.arange(24 * 20).reshape(24, 20) * top // 479).astype(dtype)


def saved(dataset, tmp_path, name="a.dcm"):
    write_dataset(tmp_path / name, dataset)
    path = tmp_path / name
    return FileRef(str(path), None, "", path.stat().st_size)


def reason(call, *arguments):
    with pytest.raises(BadCase) as caught:
        call(*arguments)
    return caught.value.reason
