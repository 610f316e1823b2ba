"""Siemens mosaics: tiles become slices in their places."""

import struct

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tasks.archive.mosaic import mosaic_frames
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.errors import BadCase
from tests.archive.made_dicom import encode, header

SPACING = (1.5, 1.25)


def csa(**tags):
    """A Siemens CSA header of the SV10 kind: names with lists of texts."""
    out = b"SV10\x04\x03\x02\x01" + struct.pack("<II", len(tags), 77)
    for name, values in tags.items():
        out += struct.pack("<64si4siii", name.encode(), len(values), b"FD\0\0", 0, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            out += struct.pack("<4i", len(text), len(text), 77, len(text))
            out += text + bytes(-len(text) % 4)
    return out


def mosaic(slices, rotation, *, sign=1, corner=(-20.0, 4.0, 9.0), step=3.3, **more):
    """A mosaic file of the slices (z, y, x) and the position of its first slice."""
    row, column, normal = rotation.as_matrix().T
    count, rows, columns = slices.shape
    tiles = int(np.ceil(np.sqrt(count)))
    picture = np.zeros((tiles * rows, tiles * columns), dtype="<u2")
    for k, plane in enumerate(slices):
        y, x = divmod(k, tiles)
        picture[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns] = plane
    # Position of a picture as large as the mosaic, round the centre of the slice.
    shift = (tiles - 1) / 2
    stated = np.array(corner) - shift * (rows * SPACING[0] * column + columns * SPACING[1] * row)
    dataset = header(1, Modality="MR", Rows=picture.shape[0], Columns=picture.shape[1])
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.PixelSpacing = list(SPACING)
    dataset.SpacingBetweenSlices, dataset.SliceThickness = f"{step}", "9"
    dataset.ImagePositionPatient = [f"{v:.10g}" for v in stated]
    dataset.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in (*row, *column)]
    dataset.PixelData = picture.tobytes()
    block = dataset.private_block(0x29, "SIEMENS CSA HEADER", create=True)
    tags = {
        "NumberOfImagesInMosaic": [str(count)],
        "SliceNormalVector": [f"{v:.12f}" for v in sign * normal],
        "B_value": ["700"],
    }
    block.add_new(0x10, "OB", csa(**(tags | more)))
    return dataset


def saved(dataset, path):
    path.write_bytes(encode(dataset))
    return FileRef(str(path), None, "", path.stat().st_size)


SLICES = np.random.default_rng(1).integers(0, 4096, (7, 6, 8)).astype(np.uint16)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(3))
def test_tiles_land_along_the_vendors_normal_whichever_way_it_runs(tmp_path, seed, sign):
    rotation = Rotation.random(random_state=seed)
    file = saved(mosaic(SLICES, rotation, sign=sign), tmp_path / "a.dcm")
    volume = read_volume("dicom", [file])
    np.testing.assert_array_equal(volume.array, SLICES[::sign])
    first = np.array([-20.0, 4.0, 9.0])
    if sign < 0:
        first = first - 6 * 3.3 * rotation.as_matrix().T[2]
    np.testing.assert_allclose(volume.affine[:3, 3], first, atol=1e-5)
    assert volume.certificate["spacing"] == pytest.approx([3.3, *SPACING])


def test_the_b_value_of_the_vendors_header_is_known():
    frames = mosaic_frames(mosaic(SLICES, Rotation.identity()))
    assert {frame.varies["b"] for frame in frames} == {700.0}
    assert len(frames) == 7


def without_header(dataset):
    del dataset[0x0029, 0x1010]


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (without_header, "was removed"),
        (lambda d: setattr(d, "SpacingBetweenSlices", None), "Spacing Between Slices"),
        (lambda d: setattr(d, "Rows", 19), "is not 3 x 3 tiles"),
        (lambda d: setattr(d[0x0029, 0x1010], "value", b"SV10" + bytes(40)), "CSA header|slices"),
    ],
)
def test_a_mosaic_that_cannot_be_placed_is_refused(edit, word):
    dataset = mosaic(SLICES, Rotation.identity())
    edit(dataset)
    with pytest.raises(BadCase, match=word) as caught:
        mosaic_frames(dataset)
    assert caught.value.reason == "mosaic_header"


def test_a_normal_that_is_not_square_to_the_slices_is_refused():
    skew = {"SliceNormalVector": ["0.1", "0", "0.99"]}
    with pytest.raises(BadCase, match="not square"):
        mosaic_frames(mosaic(SLICES, Rotation.identity(), **skew))
