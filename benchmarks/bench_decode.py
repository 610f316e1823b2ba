"""Decoding of stored frames against pydicom with pylibjpeg, one thread, same run.

    python benchmarks/bench_decode.py [--slices 40] [--rounds 5]

Synthetic CT-like slices of 512 x 512, 12 of 16 bits stored, lossless in every transfer syntax; both
sides begin at a parsed data set and end at the stored values, which must be equal. Ours checks the
header first and decodes compressed frames in its guarded child, whose CPU time is counted too.
Rounds alternate, so that other load on the machine meets both; the best of each is compared. The
limit of raw frames is the memory: a plain copy of the same bytes.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable

import imagecodecs
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from scipy.ndimage import gaussian_filter

from tasks.archive.pixels import decode_frame

SIDE = 512
RAW, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
LOSSLESS, LS = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"
J2K = "1.2.840.10008.1.2.4.90"

BARS = {"raw": 5.0, "RLE": 1.5, "JPEG lossless": 4.0, "JPEG-LS": 4.0, "JPEG 2000": 1.0}
"""Least ratio of speeds, ours over pydicom's."""


def slices(count: int) -> list[np.ndarray]:
    """Return correlated noise on a body, uint16 below 4096, (y, x)."""
    rng = np.random.default_rng(0)
    y, x = np.indices((SIDE, SIDE))
    body = ((y - 256) / 190) ** 2 + ((x - 256) / 240) ** 2 < 1
    made = []
    for _ in range(count):
        noise = gaussian_filter(rng.normal(0, 60, (SIDE, SIDE)), 1)
        made.append(np.where(body, 1064 + noise, 24 + noise / 8).clip(0, 4095).astype(np.uint16))
    return made


def run_length(image: np.ndarray) -> bytes:
    """Encode by PS3.5 annex G: the high bytes, then the low ones, row by row."""
    planes = []
    for plane in ((image >> 8).astype(np.uint8), (image & 255).astype(np.uint8)):
        coded = b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in plane)
        planes.append(coded + b"\0" * (len(coded) % 2))
    header = np.zeros(16, "<u4")
    header[:3] = 2, 64, 64 + len(planes[0])
    return header.tobytes() + b"".join(planes)


ENCODE: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "raw": (RAW, np.ndarray.tobytes),
    "RLE": (RLE, run_length),
    "JPEG lossless": (LOSSLESS, lambda a: imagecodecs.ljpeg_encode(a, bitspersample=16)),
    "JPEG-LS": (LS, imagecodecs.jpegls_encode),
    "JPEG 2000": (J2K, lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True)),
}


def dataset(syntax: str, coded: bytes) -> Dataset:
    """Return a data set as a reader gives it."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.Rows = made.Columns = SIDE
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.PixelData = coded if syntax == RAW else encapsulate([coded])
    made["PixelData"].VR = "OW"
    return made


def theirs(one: Dataset) -> np.ndarray:
    """Decode by pydicom, by pylibjpeg where the frame is compressed."""
    one._pixel_array = None
    one.pixel_array_options(use_v2_backend=False, decoding_plugin="pylibjpeg")
    if one.file_meta.TransferSyntaxUID == RAW:
        one.pixel_array_options(use_v2_backend=False)
    return one.pixel_array


def seconds(decode: Callable[[Dataset], np.ndarray], sets: list[Dataset]) -> float:
    """Return the seconds all frames take."""
    begun = time.perf_counter()
    for one in sets:
        decode(one)
    return time.perf_counter() - begun


def main() -> int:
    """Print megabytes a second and ratios; end with 1 when one is below its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    images = slices(asked.slices)
    megabytes = sum(image.nbytes for image in images) / 1e6
    print(f"{platform.machine()}, {os.cpu_count()} cores; {asked.slices} slices, MB/s decoded")
    missed = 0
    for name, (syntax, encode) in ENCODE.items():
        sets = [dataset(syntax, encode(image)) for image in images]
        for image, one in zip(images, sets, strict=True):
            if not (
                np.array_equal(decode_frame(one), image) and np.array_equal(theirs(one), image)
            ):
                sys.exit(f"{name}: the decoded values are not the encoded ones")
        ours, peer = [], []
        for _ in range(asked.rounds):
            ours.append(seconds(decode_frame, sets))
            peer.append(seconds(theirs, sets))
        ratio = min(peer) / min(ours)
        good = ratio >= BARS[name]
        missed += not good
        print(
            f"{name:14} radloop {megabytes / min(ours):7.0f}  pydicom {megabytes / min(peer):7.0f}"
            f"  ratio {ratio:5.2f}  bar {BARS[name]:.1f} {'met' if good else 'MISSED'}"
        )
    copies = []
    for _ in range(asked.rounds):
        begun = time.perf_counter()
        for image in images:
            image.copy()
        copies.append(time.perf_counter() - begun)
    print(f"{'copy':14} memory  {megabytes / min(copies):7.0f}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
