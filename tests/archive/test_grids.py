"""NRRD and MetaImage lie where ITK and pynrrd say they lie, and hostile headers only raise."""

import bz2
import contextlib
import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tasks.archive import grids, metaimage, nrrd
from tasks.archive.other_formats import read_other
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.errors import BadCase

itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: no peer to compare with")
pynrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed: no peer to compare with")

SHAPE = (4, 5, 6)
"""(z, y, x), all different so that an exchanged axis shows."""

TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")

WORLD_MM = 1e-6
"""Places may differ by the rounding of a few double operations on values of some 1000 mm."""

HEADER = (
    "NRRD0005\ntype: short\ndimension: 3\nspace: {space}\nsizes: 2 3 4\n"
    "space directions: (0.5,0,0) (0,0.75,0) (0,0,2)\nspace origin: (10,20,30)\n"
    "endian: little\nencoding: {encoding}\n"
)
VALUES = np.arange(24, dtype="<i2")


def ref(path: Path) -> FileRef:
    return FileRef(str(path), None, "", path.stat().st_size)


def itk_image(dtype: str, seed: int = 0, spacing=(0.7, 0.8, 2.5), origin=(-80.25, 40.5, 12.0)):
    values = np.random.default_rng(seed).integers(0, 100, SHAPE).astype(dtype)
    image = itk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(Rotation.random(random_state=seed).as_matrix().ravel())
    return image, values


def same_place(volume, image) -> float:
    """Largest distance in mm of a corner voxel from where ITK puts it."""
    far = 0.0
    for corner in itertools.product(*[(0, n - 1) for n in volume.array.shape]):
        world = (volume.affine @ [*corner, 1])[:3]
        there = image.TransformContinuousIndexToPhysicalPoint([float(n) for n in corner[::-1]])
        far = max(far, float(np.linalg.norm(world - np.array(there))))
    return far


def reason(call, *arguments) -> str:
    with pytest.raises(BadCase) as caught:
        call(*arguments)
    return caught.value.reason


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_what_itk_writes_is_read_voxel_by_voxel(tmp_path, ending, dtype, packed):
    image, values = itk_image(dtype, seed=3)
    itk.WriteImage(image, str(tmp_path / f"a.{ending}"), packed)
    volume = read_volume(ending, [ref(tmp_path / f"a.{ending}")])
    np.testing.assert_array_equal(volume.array, values)
    assert volume.array.dtype in (np.int16, np.int32, np.float32)
    assert volume.array.dtype.isnative
    assert same_place(volume, image) < WORLD_MM


@pytest.mark.parametrize(("kind", "ending"), [("nrrd", "nhdr"), ("mha", "mhd")])
def test_a_header_and_its_voxels_in_two_files(tmp_path, kind, ending):
    image, values = itk_image("int16", seed=5)
    itk.WriteImage(image, str(tmp_path / f"a.{ending}"))
    files = [ref(path) for path in sorted(tmp_path.iterdir(), reverse=True)]
    assert len(files) == 2
    volume = read_volume(kind, files)
    np.testing.assert_array_equal(volume.array, values)
    assert same_place(volume, image) < WORLD_MM
    head = [one for one in files if one.path.endswith(ending)]
    assert reason(read_other, kind, head) == "data_file_missing"


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    spacing=st.tuples(*[st.floats(0.2, 9)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    ending=st.sampled_from(["nrrd", "mha"]),
)
def test_any_oblique_grid_keeps_its_place(tmp_path_factory, seed, spacing, origin, ending):
    image, values = itk_image("int16", seed, spacing, origin)
    path = tmp_path_factory.getbasetemp() / f"oblique.{ending}"
    itk.WriteImage(image, str(path))
    volume = read_volume(ending, [ref(path)])
    written = itk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array, values)
    assert same_place(volume, written) < 1e-3  # ITK writes some 15 digits, not all
    np.testing.assert_allclose(volume.certificate["spacing"], spacing[::-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("RAS", (-1, -1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("LAS", (1, -1, 1)),
    ],
)
def test_spaces_become_lps_as_with_itk(tmp_path, space, signs):
    path = tmp_path / "a.nrrd"
    head = HEADER.format(space=space, encoding="raw")
    path.write_bytes(head.encode() + b"\n" + VALUES.tobytes())
    volume = read_volume("nrrd", [ref(path)])
    assert same_place(volume, itk.ReadImage(str(path))) < WORLD_MM
    np.testing.assert_allclose(volume.affine[:3, 3], np.array(signs) * (10, 20, 30))


@pytest.mark.parametrize(
    ("encoding", "pack"), [("raw", bytes), ("gzip", gzip.compress), ("bzip2", bz2.compress)]
)
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_encodings_and_line_ends_as_pynrrd_reads_them(tmp_path, encoding, pack, line):
    path = tmp_path / "a.nrrd"
    head = HEADER.format(space="LPS", encoding=encoding) + "# a comment\nkey:=value: odd\n"
    path.write_bytes(head.replace("\n", line).encode() + line.encode() + pack(VALUES.tobytes()))
    volume = read_volume("nrrd", [ref(path)])
    theirs, _ = pynrrd.read(str(path)) if line == "\n" else (VALUES.reshape(4, 3, 2).T, None)
    np.testing.assert_array_equal(volume.array, theirs.T)


def test_skipped_lines_and_bytes_of_a_detached_file(tmp_path):
    head = HEADER.format(space="LPS", encoding="raw")
    (tmp_path / "a.nhdr").write_text(head + "line skip: 2\nbyte skip: 3\ndata file: a.dat\n")
    (tmp_path / "a.dat").write_bytes(b"one\ntwo\nxyz" + VALUES.tobytes())
    files = [ref(tmp_path / name) for name in ("a.nhdr", "a.dat")]
    np.testing.assert_array_equal(read_volume("nrrd", files).array.ravel(), VALUES)
    (tmp_path / "a.nhdr").write_text(head + "byte skip: -1\ndatafile: a.dat\n")
    files[0] = ref(tmp_path / "a.nhdr")
    np.testing.assert_array_equal(read_volume("nrrd", files).array.ravel(), VALUES)


def test_an_axis_of_one_value_is_no_axis_of_space():
    head = (
        "NRRD0005\ntype: uchar\ndimension: 4\nspace: LPS\nsizes: 1 2 3 4\n"
        "kinds: list domain domain domain\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\n"
        "space origin: (0,0,0)\nencoding: raw\n\n"
    )
    data = head.encode() + bytes(range(24))
    assert nrrd.read_header(data).shape == (4, 3, 2)
    several = head.replace("sizes: 1", "sizes: 2").encode()
    assert reason(nrrd.read_header, several) == "needs_4d_grouping"
    colour = head.replace("sizes: 1", "sizes: 3").replace("list", "RGB-color").encode()
    assert reason(nrrd.read_header, colour) == "not_grey"


def test_a_file_that_states_no_orientation_lies_on_its_image_plane(tmp_path):
    head = "NRRD0001\ntype: uchar\ndimension: 2\nsizes: 3 2\nspacings: 0.5 0.75\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(range(6)))
    volume = read_volume("nrrd", [ref(tmp_path / "a.nrrd")])
    np.testing.assert_array_equal(volume.array, np.arange(6).reshape(1, 2, 3))
    assert volume.certificate["orientation"] == "image plane"
    assert volume.certificate["spacing"] == [1.0, 0.75, 0.5]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("NRRD0005", "NRRX0005"), "not_nrrd"),
        (("type: short", "type: block"), "not_nrrd"),
        (("dimension: 3", "dimension: 4"), "not_nrrd"),
        (("sizes: 2 3 4", "sizes: 2 3 -4"), "not_nrrd"),
        (("sizes: 2 3 4", "sizes: 65535 65535 65535"), "too_large"),
        (("sizes: 2 3 4", "sizes: 2 3 99999999999999999999"), "not_nrrd"),
        (("sizes: 2 3 4", "sizes: 2 3 5"), "truncated"),
        (("sizes: 2 3 4", "sizes: 2 3 3"), "wrong_length"),
        (("endian: little", "endian: both"), "not_nrrd"),
        (("encoding: raw", "encoding: hex"), "not_nrrd"),
        (("encoding: raw", "encoding: gzip"), "truncated"),
        (("space: LPS", "space: scanner-xyz"), "unknown_space"),
        (("(0,0,2)", "(0,0,nan)"), "not_nrrd"),
        (("(0,0,2)", "(0,0,0)"), "invalid_geometry"),
        (("(0,0,2)", "(0,1,2)"), "sheared_affine"),
        (("(10,20,30)", "(10,20)"), "not_nrrd"),
        (("encoding: raw", 'encoding: raw\nspace units: "s" "s" "s"'), "unknown_space"),
        (("encoding: raw", "encoding: raw\ndata file: ../../etc/passwd"), "data_file_missing"),
    ],
)
def test_headers_that_lie_are_refused_with_a_reason(tmp_path, change, expected):
    head = HEADER.format(space="LPS", encoding="raw").replace(*change)
    path = tmp_path / "a.nrrd"
    path.write_bytes(head.encode() + b"\n" + VALUES.tobytes())
    assert reason(read_volume, "nrrd", [ref(path)]) == expected


def mha(**fields: str) -> bytes:
    known = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "10 20 30",
        "ElementSpacing": "0.5 0.75 2",
        "DimSize": "2 3 4",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    merged = {**known, **fields}
    last = merged.pop("ElementDataFile")
    lines = [f"{name} = {value}" for name, value in merged.items()]
    return "\n".join([*lines, f"ElementDataFile = {last}\n"]).encode() + VALUES.tobytes()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"NDims": "9"}, "not_metaimage"),
        ({"NDims": "x"}, "not_metaimage"),
        ({"DimSize": "2 3"}, "not_metaimage"),
        ({"DimSize": "65535 65535 65535"}, "too_large"),
        ({"DimSize": "2 3 5"}, "truncated"),
        ({"DimSize": "2 3 3"}, "wrong_length"),
        ({"ElementType": "MET_OTHER"}, "not_metaimage"),
        ({"ElementNumberOfChannels": "3"}, "not_grey"),
        ({"CompressedData": "True"}, "truncated"),
        ({"BinaryData": "False"}, "not_metaimage"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 0"}, "invalid_geometry"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 inf"}, "not_metaimage"),
        ({"DistanceUnits": "cm"}, "unknown_space"),
        ({"ElementDataFile": "/etc/passwd"}, "data_file_missing"),
        ({"ElementDataFile": "LIST"}, "not_metaimage"),
        ({"ElementDataFile": "slice%03d.raw 1 4 1"}, "not_metaimage"),
    ],
)
def test_metaimage_headers_that_lie_are_refused_with_a_reason(tmp_path, fields, expected):
    path = tmp_path / "a.mha"
    path.write_bytes(mha(**fields))
    assert reason(read_volume, "mha", [ref(path)]) == expected


def test_four_dimensions_of_one_volume_are_one_volume(tmp_path):
    four = {"NDims": "4", "DimSize": "2 3 4 1", "Offset": "0 0 0 0", "ElementSpacing": "1 1 1 1"}
    turn = {"TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"}
    (tmp_path / "a.mha").write_bytes(mha(**four, **turn))
    assert read_volume("mha", [ref(tmp_path / "a.mha")]).array.shape == (4, 3, 2)
    several = mha(**{**four, "DimSize": "2 3 2 2"}, **turn)
    assert reason(metaimage.read_header, several) == "needs_4d_grouping"


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    bomb = gzip.compress(bytes(50_000_000))
    path = tmp_path / "a.nrrd"
    head = HEADER.format(space="LPS", encoding="gzip")
    path.write_bytes(head.encode() + b"\n" + bomb)
    monkeypatch.setattr(grids, "MAX_DECODED_BYTES", 1000)
    assert reason(read_volume, "nrrd", [ref(path)]) == "wrong_length"


@settings(deadline=None, max_examples=300)
@given(data=st.data(), kind=st.sampled_from(["nrrd", "mha"]))
def test_a_mutated_file_gives_a_volume_or_a_reason(data, kind, tmp_path_factory):
    whole = mha() if kind == "mha" else HEADER.format(space="LPS", encoding="raw").encode() + b"\n"
    whole = bytearray(whole if kind == "mha" else whole + VALUES.tobytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.getbasetemp() / f"mutated.{kind}"
    path.write_bytes(bytes(whole[: cut or None]))
    with contextlib.suppress(BadCase):
        assert np.isfinite(read_volume(kind, [ref(path)]).affine).all()


@pytest.mark.parametrize("name", ["lung1_image", "brain1_image", "lung1_label", "brain1_label"])
def test_real_volumes_lie_where_itk_puts_them(shared_data, name):
    path = shared_data / "volumes" / f"{name}.nrrd"
    volume, image = read_volume("nrrd", [ref(path)]), itk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array, itk.GetArrayFromImage(image))
    assert same_place(volume, image) < WORLD_MM
