"""Pixels into a DICOM dataset in a chosen transfer syntax, and datasets to files."""

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

IMPLEMENTATION_UID = "2.25.314159265358979323846"
"""Implementation Class UID of the files, fixed so that a new pydicom does not change bytes."""


def encode_pixels(dataset: Dataset, pixels: np.ndarray, syntax: str) -> None:
    """Set Pixel Data and Transfer Syntax UID of a single grey frame.

    Parameters
    ----------
    dataset : pydicom.Dataset
        With file_meta, Rows, Columns and the bit elements; changed in place.
    pixels : array, shape (rows, columns)
        8 or 16 bits, signed or not.
    syntax : str
        Native little endian, RLE, JPEG lossless SV1, JPEG-LS lossless or JPEG 2000 lossless.

    Raises
    ------
    ValueError
        For another transfer syntax.
    """
    dataset.file_meta.TransferSyntaxUID = syntax
    pixels = np.ascontiguousarray(pixels)
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    else:
        dataset.PixelData = encapsulate([_compressed(dataset, pixels, syntax)])
    wide = pixels.dtype.itemsize > 1 and not dataset.file_meta.TransferSyntaxUID.is_compressed
    # PS3.5 annex A: compressed is OB, native is OW (always so in implicit VR).
    dataset["PixelData"].VR = "OW" if wide or syntax == ImplicitVRLittleEndian else "OB"
    dataset["PixelData"].is_undefined_length = dataset.file_meta.TransferSyntaxUID.is_compressed


def _compressed(dataset: Dataset, pixels: np.ndarray, syntax: str) -> bytes:
    import imagecodecs

    bits = int(dataset.BitsStored)
    if syntax == RLELossless:
        from pydicom.pixels import get_encoder

        options = {
            "rows": pixels.shape[0],
            "columns": pixels.shape[1],
            "samples_per_pixel": 1,
            "number_of_frames": 1,
            "bits_allocated": pixels.dtype.itemsize * 8,
            "bits_stored": bits,
            "pixel_representation": int(pixels.dtype.kind == "i"),
            "photometric_interpretation": "MONOCHROME2",
        }
        encoder = get_encoder(RLELossless)
        return encoder.encode(pixels, encoding_plugin="pydicom", **options)
    unsigned = pixels.view(f"u{pixels.dtype.itemsize}")
    if pixels.dtype.kind == "i" and bits < pixels.dtype.itemsize * 8:
        unsigned = unsigned & np.array((1 << bits) - 1, dtype=unsigned.dtype)
    if syntax == JPEGLSLossless:
        return imagecodecs.jpegls_encode(unsigned)
    if syntax == JPEG2000Lossless:
        return imagecodecs.jpeg2k_encode(
            unsigned, level=0, codecformat="j2k", reversible=True, bitspersample=bits
        )
    if syntax == JPEGLosslessSV1:
        return imagecodecs.jpeg_encode(unsigned, lossless=True, bitspersample=bits)
    raise ValueError(f"phantoms are not written in transfer syntax {syntax}")


def write_dataset(path: Path, dataset: Dataset) -> None:
    """Write a dataset as a DICOM file; the same dataset gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    dataset.file_meta.ImplementationVersionName = "RADLOOP"
    dataset.file_meta.FileMetaInformationVersion = b"\x00\x01"
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.preamble = b"\x00" * 128
    dataset.save_as(
        path,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format="MediaStorageSOPInstanceUID" in dataset.file_meta,
    )
