"""Whole images of every transfer syntax and pixel form that is read: what the fuzzer damages."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom.data
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels import get_encoder
from pydicom.uid import RLELossless

from tasks.archive.elements import quiet
from tests.archive.made_dicom import encode, header, without_preamble
from tests.archive.made_enhanced import enhanced, item

TOKEN = "Plantd"
"""Stands in every element that may name somebody; no message, log or store may hold it."""

SHIPPED = """
    693_J2KI CT_small ExplVR_BigEnd GDCMJ2K_TextGBR JPEG-lossy JPEG2000 JPEGLSNearLossless_08
    JPEGLSNearLossless_16 JPGExtended MR_small MR_small_RLE MR_small_bigendian MR_small_expb
    MR_small_implicit MR_small_jp2klossless MR_small_jpeg_ls_lossless SC_jpeg_no_color_transform
    SC_jpeg_no_color_transform_2 SC_rgb_dcmtk_+eb+cr SC_rgb_dcmtk_+eb+cy+n1 SC_rgb_dcmtk_+eb+cy+n2
    SC_rgb_dcmtk_+eb+cy+np SC_rgb_dcmtk_+eb+cy+s2 SC_rgb_dcmtk_+eb+cy+s4 SC_rgb_gdcm_KY
    SC_rgb_jls_lossy_line SC_rgb_jls_lossy_sample SC_rgb_jpeg SC_rgb_jpeg_app14_dcmd
    SC_rgb_jpeg_dcmtk SC_rgb_jpeg_gdcm SC_rgb_jpeg_lossy_gdcm SC_rgb_rle SC_rgb_rle_16bit
    SC_rgb_rle_16bit_2frame SC_rgb_rle_2frame SC_rgb_rle_32bit SC_rgb_rle_32bit_2frame
    SC_rgb_small_odd SC_rgb_small_odd_big_endian SC_rgb_small_odd_jpeg
    SC_ybr_full_422_uncompressed
    """
"""The images of pydicom below 40 kB that come through to their voxels."""

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
RLE, LS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"

NAMING_VRS = ("AE", "LO", "LT", "PN", "SH", "ST", "UT")
"""VRs whose values are free words, and so may hold a name."""

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True)
class Whole:
    """One undamaged image; its data set lies open also where the file is to be deflated."""

    name: str
    data: bytes
    deflated: bool = False

    def numbered(self, number: int) -> bytes:
        """Return the file with UIDs of its own, as long as the former: no two files conflict."""
        data = self.data
        for uid in sorted(_uids(self.data), key=len, reverse=True):
            kind = _uids(self.data)[uid]
            data = data.replace(
                uid.encode(), f"1.9.{kind}1{number:0{len(uid) - 6}d}".encode()[: len(uid)]
            )
        return data


@cache
def _uids(data: bytes) -> dict[str, int]:
    with quiet():
        dataset = dcmread(BytesIO(data), force=True, stop_before_pixels=True)
    return {str(dataset.get(name)): kind for kind, name in enumerate(UIDS) if name in dataset}


def noise(shape: tuple[int, ...] = (24, 20), top: int = 4096, dtype: str = "<u2") -> np.ndarray:
    """Pixels without order, so that no codec makes a stream too short to be hit."""
    return np.random.default_rng(7).integers(0, top, shape).astype(dtype)


def _planted(**more: object) -> Dataset:
    return header(
        1,
        patient=f"{TOKEN}-4711",
        PatientName=f"{TOKEN}^{TOKEN}",
        AccessionNumber=f"{TOKEN}AC",
        StudyDescription=f"{TOKEN} {TOKEN}",
        SeriesDescription=f"{TOKEN} series",
        ReferringPhysicianName=f"{TOKEN}^Doctor",
        InstitutionName=f"{TOKEN} Hospital",
        Manufacturer=f"{TOKEN} Inc",
        **more,
    )


def _image(pixels: np.ndarray, syntax: str = EXPLICIT, **more: object) -> bytes:
    """An uncompressed image, shape (rows, columns[, 3])."""
    ds = _planted(Rows=pixels.shape[0], Columns=pixels.shape[1], **more)
    ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    if pixels.ndim == 3:
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 and syntax == EXPLICIT else "OW"
    return encode(ds, syntax)


def _compressed(syntax: str, frames: list[bytes], pixels: np.ndarray, **more: object) -> bytes:
    """An encapsulated image of one or more frames of the shape and type of `pixels`."""
    extended, fragments = more.pop("extended", False), more.pop("fragments", 1)
    ds = _planted(Rows=pixels.shape[0], Columns=pixels.shape[1], **more)
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    ds.BitsStored = 12 if ds.BitsAllocated == 16 else 8
    ds.HighBit = ds.BitsStored - 1
    if pixels.ndim == 3:
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
    if len(frames) > 1:
        ds.NumberOfFrames = len(frames)
    if extended:
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(
            frames
        )
    else:
        ds.PixelData = encapsulate(frames, fragments_per_frame=fragments)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return encode(ds, syntax)


def _run_length(pixels: np.ndarray) -> bytes:
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    return get_encoder(RLELossless).encode(
        pixels,
        encoding_plugin="pydicom",
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=samples,
        planar_configuration=0,
        number_of_frames=1,
        bits_allocated=pixels.dtype.itemsize * 8,
        bits_stored=pixels.dtype.itemsize * 8,
        pixel_representation=0,
        photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2",
    )


ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "1.2.840.10008.1.2.4.50": lambda p: imagecodecs.jpeg8_encode((p >> 4).astype("u1")),
    "1.2.840.10008.1.2.4.51": partial(imagecodecs.jpeg8_encode, bitspersample=12),
    "1.2.840.10008.1.2.4.57": partial(imagecodecs.ljpeg_encode, bitspersample=16),
    "1.2.840.10008.1.2.4.70": partial(imagecodecs.ljpeg_encode, bitspersample=16),
    LS: imagecodecs.jpegls_encode,
    "1.2.840.10008.1.2.4.81": partial(imagecodecs.jpegls_encode, level=2),
    "1.2.840.10008.1.2.4.90": partial(imagecodecs.jpeg2k_encode, reversible=True),
    "1.2.840.10008.1.2.4.91": partial(imagecodecs.jpeg2k_encode, level=30),
    **{
        f"1.2.840.10008.1.2.4.{n}": partial(imagecodecs.htj2k_encode, reversible=True)
        for n in (201, 202, 203)
    },
    RLE: _run_length,
}
"""Transfer syntax -> what makes a stream of it."""


def _of_syntax(syntax: str) -> bytes:
    pixels = noise()
    held = noise(dtype="u1", top=256) if syntax.endswith(".50") else pixels
    return _compressed(syntax, [bytes(ENCODERS[syntax](pixels))], held)


def _made() -> list[Whole]:
    grey, small, colour = noise(), noise(dtype="u1", top=256), noise((24, 20, 3), 256, "u1")
    signed = noise(top=2000, dtype="<i2") - 1000
    jpeg = bytes(imagecodecs.jpeg8_encode(colour))
    coded = [bytes(imagecodecs.jpegls_encode(noise())) for _ in range(3)]
    lut = item(LUTDescriptor=[16, 0, 16], LUTData=np.arange(16, dtype="<u2").tobytes(),
               ModalityLUTType="US")  # fmt: skip
    lut["LUTData"].VR = "OW"
    plain = _planted(Rows=24, Columns=20, PixelData=grey.tobytes())
    window = {"WindowCenter": "2000", "WindowWidth": "900", "PixelPaddingValue": 5}
    shutter = {"ShutterShape": "RECTANGULAR", "ShutterLeftVerticalEdge": "3",
               "ShutterRightVerticalEdge": "15", "ShutterUpperHorizontalEdge": "2",
               "ShutterLowerHorizontalEdge": "20"}  # fmt: skip
    dx = {"Modality": "DX", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1"}
    us = {"Modality": "US", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1",
          "PhotometricInterpretation": "RGB"}  # fmt: skip
    places = [(0, 0, 2.5 * k) for k in range(3)]
    enhanced_coded = enhanced(places, noise((3, 24, 20)), encoded=coded, slopes=[1, 2, 3])
    enhanced_plain = enhanced(places, noise((3, 24, 20)))
    enhanced_plain.PatientName = enhanced_coded.PatientName = f"{TOKEN}^Enhanced"
    files = {
        "explicit": _image(grey, RescaleSlope="1", RescaleIntercept="-1024"),
        "implicit": _image(grey, IMPLICIT),
        "no preamble": without_preamble(plain),
        "big endian": _image(grey.astype(">u2"), BIG),
        "signed with padding": _image(signed, PixelRepresentation=1, PixelPaddingValue=-1000),
        "eight bits": _image(small, RescaleSlope="0.37", RescaleIntercept="-2"),
        "radiograph": _image(grey, **dx, **window, **shutter),
        "modality table": _image(grey % 16, **dx, ModalityLUTSequence=[lut]),
        "colour": _image(colour, **us),
        "colour in RLE": _compressed(RLE, [_run_length(colour)], colour, **us),
        "colour JPEG": _compressed("1.2.840.10008.1.2.4.50", [jpeg], colour,
                                   **{**us, "PhotometricInterpretation": "YBR_FULL_422"}),
        "cine with offsets": _compressed("1.2.840.10008.1.2.4.50", [jpeg] * 4, colour,
                                         **{**us, "PhotometricInterpretation": "YBR_FULL_422"}),
        "cine with long offsets": _compressed("1.2.840.10008.1.2.4.50", [jpeg] * 4, colour,
                                              extended=True, **us),
        "frame in fragments": _compressed(LS, coded[:1], grey, fragments=3),
        "enhanced": encode(enhanced_plain),
        "enhanced JPEG-LS": encode(enhanced_coded, LS),
        **{syntax: _of_syntax(syntax) for syntax in ENCODERS},
    }  # fmt: skip
    wholes = [Whole(name, data) for name, data in files.items()]
    return [*wholes, Whole("deflated", files["explicit"], deflated=True)]


def _shipped() -> list[Whole]:
    """Small images that pydicom brings, their names planted."""
    # Only what the package itself brings: asking pydicom for more would ask the network.
    root = Path(pydicom.data.__file__).parent / "test_files"
    return [
        Whole(name, plant_names((root / f"{name}.dcm").read_bytes())) for name in SHIPPED.split()
    ]


def plant_names(data: bytes) -> bytes:
    """Put the token, in place, into whatever may hold a name."""
    with quiet():
        dataset = dcmread(BytesIO(data), force=True, stop_before_pixels=True)
    held = [raw.value for raw in dataset.values() if _may_name(raw)]
    for value in sorted(filter(None, held), key=len, reverse=True):
        if isinstance(value, bytes) and len(value) >= len(TOKEN):
            data = data.replace(value, (TOKEN * len(value)).encode()[: len(value)])
    return data


def _may_name(raw: object) -> bool:
    # A vendor's name also stands in private creators, which tell a mosaic.
    kept = raw.tag.is_private or raw.tag == 0x00080070
    return not kept and (raw.VR in NAMING_VRS or (raw.VR is None and raw.tag.group == 0x0010))


@cache
def wholes() -> tuple[Whole, ...]:
    """All of them, in one order on every machine."""
    return (*_made(), *_shipped())


def deflated(data: bytes, start: int) -> bytes:
    """Return a file whose data set, from `start` on, is a zlib stream (PS3.5 A.5)."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = packer.compress(data[start:]) + packer.flush()
    syntax = struct.pack("<HH2sH", 2, 0x10, b"UI", len(DEFLATED)) + DEFLATED.encode()
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(syntax))
    return bytes(128) + b"DICM" + length + syntax + body
