"""NIfTI in and out keeps the place of every voxel; masks must lie on the image's grid."""

import gzip
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tasks.archive.decathlon import nifti_facts
from tasks.archive.nifti import LPS_RAS, read_mask, read_nifti, write_nifti
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.errors import BadCase

nibabel = pytest.importorskip("nibabel")

SHAPE = (4, 5, 6)
"""(z, y, x), all different so that an exchanged axis shows."""

VALUES = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) - 60


def ref(path):
    return FileRef(str(path), None, "", path.stat().st_size)


def index_affine(rotation=None, spacing=(2.5, 0.8, 0.7), origin=(-80.25, 40.5, 12.0)):
    row, column, normal = (rotation or Rotation.identity()).as_matrix().T
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([normal, column, row]) * spacing
    affine[:3, 3] = origin
    return affine


def foreign(path, data, ras, **header):
    """Write a NIfTI as another program would: data (i, j, k) with its own RAS affine."""
    image = nibabel.Nifti1Image(data, ras)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return ref(path)


def reason(call, *arguments):
    with pytest.raises(BadCase) as caught:
        call(*arguments)
    return caught.value.reason


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), spacing=st.tuples(*[st.floats(0.4, 8)] * 3))
def test_write_then_read_keeps_voxels_and_world(tmp_path_factory, seed, spacing):
    affine = index_affine(Rotation.random(random_state=seed), spacing)
    path = tmp_path_factory.getbasetemp() / "round.nii.gz"
    write_nifti(path, VALUES, affine)
    volume = read_nifti(ref(path))
    np.testing.assert_array_equal(volume.array, VALUES)
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.affine, affine, atol=2e-5)


def test_another_program_sees_each_voxel_at_its_place(tmp_path):
    affine = index_affine(Rotation.from_euler("xyz", [20, -30, 50], degrees=True))
    write_nifti(tmp_path / "a.nii.gz", VALUES, affine)
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.shape == SHAPE[::-1]
    for z, y, x in itertools.product((0, 3), (0, 4), (0, 5)):
        ras = image.affine @ [x, y, z, 1]
        np.testing.assert_allclose(LPS_RAS @ ras, affine @ [z, y, x, 1], atol=1e-4)
        assert image.dataobj[x, y, z] == VALUES[z, y, x]


def test_qform_and_sform_agree(tmp_path):
    write_nifti(tmp_path / "a.nii", VALUES, index_affine())
    header = nibabel.load(tmp_path / "a.nii").header
    assert header.get_qform(coded=True)[1] == header.get_sform(coded=True)[1] == 1
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-5)


def test_the_same_array_gives_the_same_bytes(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", VALUES, index_affine())
    write_nifti(tmp_path / "b.nii.gz", VALUES, index_affine())
    first = (tmp_path / "a.nii.gz").read_bytes()
    assert first == (tmp_path / "b.nii.gz").read_bytes()
    assert first[4:8] == bytes(4)  # no time in the gzip header
    assert {p.name for p in tmp_path.iterdir()} == {"a.nii.gz", "b.nii.gz"}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "bool", "int64"])
def test_types_survive_writing(tmp_path, dtype):
    array = (VALUES > 0).astype(dtype) if dtype == "bool" else np.abs(VALUES).astype(dtype)
    write_nifti(tmp_path / "a.nii", array, index_affine())
    back = np.asanyarray(nibabel.load(tmp_path / "a.nii").dataobj).T
    np.testing.assert_array_equal(back, array)


def test_writing_refuses_what_nifti_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match=r"axes \(z, y, x\)"):
        write_nifti(tmp_path / "a.nii", VALUES[0], index_affine())
    with pytest.raises(ValueError, match="32 bits"):
        write_nifti(tmp_path / "a.nii", VALUES.astype(np.int64) << 40, index_affine())


def test_a_scaled_file_is_float_and_a_plain_one_integer(tmp_path):
    data = VALUES.T.copy()
    image = nibabel.Nifti1Image(data, np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "scaled.nii")
    scaled = read_nifti(ref(tmp_path / "scaled.nii"))
    assert scaled.array.dtype == np.float32
    np.testing.assert_allclose(scaled.array, VALUES * 0.5 + 10)
    plain = read_nifti(foreign(tmp_path / "plain.nii", data.astype(np.uint16), np.eye(4)))
    assert plain.array.dtype == np.int32


def test_the_files_own_voxel_order_is_kept(tmp_path):
    las = np.diag([-0.7, 0.8, 2.5, 1.0])
    volume = read_volume("nifti", [foreign(tmp_path / "a.nii.gz", VALUES.T, las)])
    np.testing.assert_array_equal(volume.array, VALUES)
    write_nifti(tmp_path / "b.nii.gz", volume.array, volume.affine)
    np.testing.assert_allclose(nibabel.load(tmp_path / "b.nii.gz").affine, las, atol=1e-6)


def test_metres_and_microns_become_millimetres(tmp_path):
    image = nibabel.Nifti1Image(VALUES.T, np.diag([700.0, 800, 2500, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    spacing = read_nifti(ref(tmp_path / "a.nii")).certificate["spacing"]
    assert spacing == pytest.approx([2.5, 0.8, 0.7])


def test_certificate_names_the_plane(tmp_path):
    write_nifti(
        tmp_path / "a.nii", VALUES, index_affine(Rotation.from_euler("x", 90, degrees=True))
    )
    certificate = read_nifti(ref(tmp_path / "a.nii")).certificate
    assert (certificate["orientation"], certificate["verdict"]) == ("coronal", "accept")


def test_what_is_no_single_volume_is_refused(tmp_path):
    several = np.zeros((3, 3, 3, 2), np.int16)
    assert (
        reason(read_nifti, foreign(tmp_path / "a.nii", several, np.eye(4))) == "needs_4d_grouping"
    )
    sheared = np.eye(4)
    sheared[0, 2] = 0.4
    assert reason(read_nifti, foreign(tmp_path / "b.nii", VALUES.T, sheared)) == "sheared_affine"
    hole = VALUES.T.astype(np.float32)
    hole[0, 0, 0] = np.nan
    assert reason(read_nifti, foreign(tmp_path / "c.nii", hole, np.eye(4))) == "non_finite"
    (tmp_path / "d.nii").write_bytes(b"no nifti at all")
    assert reason(read_nifti, ref(tmp_path / "d.nii")) == "not_nifti"


def test_cut_files_are_refused(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", VALUES, index_affine())
    data = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(data[:-20])
    assert reason(read_nifti, ref(tmp_path / "a.nii.gz")) == "truncated"
    (tmp_path / "b.nii").write_bytes(gzip.decompress(data)[:-20])
    assert reason(read_nifti, ref(tmp_path / "b.nii")) == "not_nifti"


def test_a_bomb_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.archive.nifti.MAX_DECODED_BYTES", 1000)
    write_nifti(tmp_path / "a.nii.gz", np.zeros((20, 20, 20), np.uint8), index_affine())
    assert reason(read_nifti, ref(tmp_path / "a.nii.gz")) == "too_large"


@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_a_mask_stored_in_another_order_of_the_same_grid_is_turned(tmp_path, axes, flips):
    affine = index_affine(Rotation.from_euler("xyz", [3, 40, -20], degrees=True))
    write_nifti(tmp_path / "image.nii", VALUES, affine)
    like = read_nifti(ref(tmp_path / "image.nii"))
    labels = (np.arange(VALUES.size) % 7).reshape(SHAPE).astype(np.uint8)
    turn = np.eye(4)  # from an index of the stored mask to an index of the image
    stored = labels.transpose(axes)
    turn[:3, :3] = np.eye(3)[:, list(axes)]
    for k, flip in enumerate(flips):
        if flip:
            stored = np.flip(stored, k)
            turn[:3, 3] += turn[:3, k] * (stored.shape[k] - 1)
            turn[:3, k] *= -1
    write_nifti(tmp_path / "mask.nii.gz", stored, affine @ turn)
    back = read_mask(ref(tmp_path / "mask.nii.gz"), like)
    np.testing.assert_array_equal(back, labels)
    assert back.dtype == np.uint8


def test_a_mask_on_another_grid_is_refused_with_the_distance(tmp_path):
    write_nifti(tmp_path / "image.nii", VALUES, index_affine())
    like = read_nifti(ref(tmp_path / "image.nii"))
    labels = np.ones(SHAPE, np.uint8)
    write_nifti(tmp_path / "moved.nii", labels, index_affine(origin=(-80.2, 40.5, 12.0)))
    with pytest.raises(BadCase, match=r"0\.05\d* mm off the image, limit 0\.001") as caught:
        read_mask(ref(tmp_path / "moved.nii"), like)
    assert caught.value.reason == "mask_grid"
    for array, affine in (
        (labels[:-1], index_affine()),
        (labels, index_affine(spacing=(2.5, 0.8, 0.9))),
        (labels, index_affine(Rotation.from_euler("z", 30, degrees=True))),
    ):
        write_nifti(tmp_path / "other.nii", array, affine)
        assert reason(read_mask, ref(tmp_path / "other.nii"), like) == "mask_grid"


def test_labels_are_whole_small_and_not_negative(tmp_path):
    write_nifti(tmp_path / "image.nii", VALUES, index_affine())
    like = read_nifti(ref(tmp_path / "image.nii"))
    labels = np.zeros(SHAPE, np.float32)
    for value, outcome in ((0.5, "mask_labels"), (-1, "mask_labels"), (70000, "mask_labels")):
        labels[0, 0, 0] = value
        write_nifti(tmp_path / "mask.nii", labels, index_affine())
        assert reason(read_mask, ref(tmp_path / "mask.nii"), like) == outcome
    labels[0, 0, 0] = 300
    write_nifti(tmp_path / "mask.nii", labels, index_affine())
    mask = read_mask(ref(tmp_path / "mask.nii"), like)
    assert mask.dtype == np.uint16
    assert mask.max() == 300


def test_real_hippocampus_masks_lie_on_their_images(shared_data):
    images = sorted((shared_data / "hippocampus/imagesTr").glob("*.nii.gz"))[:10]
    assert len(images) == 10
    for image in images:
        volume = read_volume("nifti", [ref(image)])
        mask = read_mask(ref(shared_data / "hippocampus/labelsTr" / image.name), volume)
        assert mask.shape == volume.array.shape
        assert set(np.unique(mask)) == {0, 1, 2}


def test_real_epi_reference_is_4d(shared_data):
    path = shared_data / "reference/mr_siemens_epi/EPI_PE=AP_3.nii"
    assert reason(read_nifti, ref(path)) == "needs_4d_grouping"


def test_the_facts_of_a_file_with_extensions_are_read_from_its_header_alone(tmp_path):
    image = nibabel.Nifti1Image(VALUES.T, np.diag([0.7, 0.8, 2.5, 1]))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 5000))
    nibabel.save(image, tmp_path / "a.nii.gz")
    facts = nifti_facts((tmp_path / "a.nii.gz").read_bytes(), "CT")
    assert (facts["frames"], facts["rows"], facts["cols"]) == SHAPE
    assert (facts["spacing_row"], facts["spacing_col"], facts["modality"]) == (0.8, 0.7, "CT")
