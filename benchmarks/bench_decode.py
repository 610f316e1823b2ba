"""Decoding of stored frames against pydicom with pylibjpeg, one core, same run.

    python benchmarks/bench_decode.py [--slices 40] [--rounds 5]

CT-like slices of 512 x 512, 12 of 16 bits stored, lossless in every transfer syntax; both sides
begin at parsed data sets and end at the stored values, which must be equal. Ours is the way
`read_volume` takes (`decode_frames`): the header checked, compressed frames decoded in the guarded
child. Seconds are those of a core, the child's counted too, so that nothing is gained by working
side by side; both sides are kept on one core all the same. Rounds alternate, so that other load on
the machine meets both; the best of each is compared.

"decoder" is the codec alone, called in this process without any guard: no way to the child can be
faster. Whether CharLS is four times pylibjpeg's JPEG-LS depends on the picture: on real CT of the
thorax and of the body it is 3.6 and 4.1 times.

Then the same JPEG 2000 in one process and in two, free to use all cores: workers are processes.
"""

import argparse
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor

import imagecodecs
import numpy as np
import psutil
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from scipy.ndimage import gaussian_filter

from tasks.archive.codecs import decode_stream
from tasks.archive.pixels import StoredPixels, decode_frames

SIDE = 512
RAW, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
LOSSLESS, LS = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"
J2K = "1.2.840.10008.1.2.4.90"

BARS = {"raw": 5.0, "RLE": 1.5, "JPEG lossless": 4.0, "JPEG-LS": 4.0, "JPEG 2000": 1.0}
"""Least ratio of speeds, ours over pydicom's."""

MOST_BUSY = 20.0
"""Per cent of the cores in use by others above which scaling says nothing about radloop."""

LEAST_SCALING = 1.5
"""Two processes on two idle cores reach nearly 2; other load meets two more than it meets one."""


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


def ours(sets: Iterable[Dataset]) -> list[np.ndarray]:
    """Decode as `read_volume` does; kept, so that they can be compared."""
    return list(decode_frames([(StoredPixels(one), 0) for one in sets], keep=True))


def use_up(sets: Iterable[Dataset]) -> None:
    """Decode as `read_volume` does, which takes the values out of each frame before the next."""
    for _ in decode_frames((StoredPixels(one), 0) for one in sets):
        pass


def taken_by(decode: Callable[[], object]) -> float:
    """Return the core seconds it takes this process and its children."""
    children = [one.pid for one in psutil.Process().children()]

    def had() -> float:
        # The number of another process's CPU clock, as clock_getcpuclockid(3) makes it.
        return time.process_time() + sum(time.clock_gettime(~pid << 3 | 2) for pid in children)

    begun = had()
    decode()
    return had() - begun


def seconds(decode: Callable[[], object]) -> float:
    """Return the seconds it takes."""
    begun = time.perf_counter()
    decode()
    return time.perf_counter() - begun


def compare(name: str, images: list[np.ndarray], rounds: int) -> bool:
    """Print one line and tell whether the bar is met."""
    syntax, encode = ENCODE[name]
    frames = [bytes(encode(image)) for image in images]
    sets = [dataset(syntax, frame) for frame in frames]
    for image, mine, other in zip(images, ours(sets), map(theirs, sets), strict=True):
        if not (np.array_equal(mine, image) and np.array_equal(other, image)):
            sys.exit(f"{name}: the decoded values are not the encoded ones")
    taken: dict[str, list[float]] = {"ours": [], "theirs": [], "alone": []}
    for _ in range(rounds):
        taken["ours"].append(taken_by(lambda: use_up(sets)))
        taken["theirs"].append(taken_by(lambda: [theirs(one) for one in sets]))
        taken["alone"].append(taken_by(lambda: [alone(syntax, frame) for frame in frames]))
    best = {side: min(found) for side, found in taken.items()}
    ratio, megabytes = best["theirs"] / best["ours"], sum(image.nbytes for image in images) / 1e6
    good = ratio >= BARS[name]
    print(
        f"{name:14} radloop {megabytes / best['ours']:7.0f}  "
        f"pydicom {megabytes / best['theirs']:6.0f}  decoder {megabytes / best['alone']:7.0f}  "
        f"ratio {ratio:5.2f}  bar {BARS[name]:.1f} {'met' if good else 'MISSED'}"
    )
    return good


def alone(syntax: str, frame: bytes) -> np.ndarray:
    """Decode in this process, without a guard; of raw pixels: copy them."""
    if syntax == RAW:
        return np.frombuffer(frame, np.uint16).copy()
    return decode_stream(syntax, frame, (SIDE, SIDE, 1), 16, "MONOCHROME2")


def part(count: int) -> None:
    """Be a worker: decode so many JPEG 2000 slices."""
    syntax, encode = ENCODE["JPEG 2000"]
    use_up([dataset(syntax, bytes(encode(image))) for image in slices(1)] * count)


def scaling(count: int, cores: int) -> float:
    """Print and return how much faster workers on `cores` cores are than one."""
    context = multiprocessing.get_context("spawn")
    taken = {}
    for workers in (1, cores):
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            # Children of the pool and their decoders start before the clock does.
            list(pool.map(part, [1] * workers * 4))
            share = [count // workers] * workers
            taken[workers] = seconds(lambda pool=pool, share=share: list(pool.map(part, share)))
    gain = taken[1] / taken[cores]
    print(f"{'JPEG 2000':14} {cores} processes {gain:.2f} times one, {count} slices")
    return gain


def main() -> int:
    """Print megabytes a second and ratios; end with 1 when one is below its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    images = slices(asked.slices)
    cores = sorted(os.sched_getaffinity(0))
    machine = f"{platform.machine()}, {len(cores)} cores"
    print(f"{machine}; {asked.slices} slices, MB decoded a second of one core")
    os.sched_setaffinity(0, cores[-1:])
    good = [compare(name, images, asked.rounds) for name in ENCODE]
    os.sched_setaffinity(0, cores)
    if len(cores) > 1:
        busy = psutil.cpu_percent(interval=1.0)
        scales = scaling(4 * asked.slices, 2) >= LEAST_SCALING
        if busy > MOST_BUSY:
            print(f"scaling is not judged: others keep the cores busy, {busy:.0f} %")
        else:
            good.append(scales)
    else:
        print("scaling with cores not measured: there is one core")
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main())
