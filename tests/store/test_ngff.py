"""Parts as other NGFF readers see them."""

import numpy as np
import pytest
import zarr

from tasks.store.ngff import multiscale
from tests.store.making import FIXED, case_name, prepared, write

models = pytest.importorskip("ome_zarr_models.v05", reason="ome-zarr-models is not installed")


def axis_aligned(sizes=(3.0, 2.0, 1.0), origin=(30.0, 20.0, -10.0)):
    """Return the affine of an upright grid: sizes and origin along z, y, x."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(sizes[::-1])[:, ::-1]
    affine[:3, 3] = origin[::-1]
    return affine


def transforms(ome):
    return ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]


def test_an_upright_grid_states_sizes_and_place():
    assert transforms(multiscale(axis_aligned())) == [
        {"type": "scale", "scale": [3.0, 2.0, 1.0]},
        {"type": "translation", "translation": [30.0, 20.0, -10.0]},
    ]


@pytest.mark.parametrize("change", ["flipped", "turned", "tilted"])
def test_any_other_grid_states_its_sizes_only(change):
    affine = axis_aligned()
    if change == "flipped":
        affine[:3, 2] *= -1
    elif change == "turned":
        affine[:3, :3] = affine[:3, [1, 0, 2]]
    else:
        angle = np.deg2rad(1)
        turn = np.array(
            [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
        )
        affine[:3, :3] = turn @ affine[:3, :3]
    (scale,) = transforms(multiscale(affine))
    sizes = [2.0, 3.0, 1.0] if change == "turned" else [3.0, 2.0, 1.0]
    np.testing.assert_allclose(scale["scale"], sizes)


@pytest.mark.parametrize("fixed", [None, FIXED], ids=["cases", "packed"])
def test_images_and_masks_are_valid_ngff(tmp_path, fixed):
    record = write(tmp_path, 3, fixed)
    part = zarr.open_group(str(tmp_path / record.path), mode="r")
    groups = [part["voxels"]] if fixed else [part[f"cases/{case_name(n)}"] for n in range(3)]
    masks = 0
    for group in groups:
        image = models.Image.from_zarr(group)
        scale = image.ome_attributes.multiscales[0]
        assert [axis.name for axis in scale.axes] == ["case", "z", "y", "x"][-group["0"].ndim :]
        assert group["0"].metadata.dimension_names == tuple(axis.name for axis in scale.axes)
        for name in group["labels"].attrs["ome"]["labels"] if "labels" in group else ():
            models.ImageLabel.from_zarr(group[f"labels/{name}"])
            masks += 1
    assert masks == (2 if fixed else 3)


def test_a_case_opens_by_its_metadata_alone_in_plain_zarr(tmp_path):
    record = write(tmp_path, 2)
    group = zarr.open_group(str(tmp_path / record.path / "cases" / case_name(1)), mode="r")
    made = prepared(case_name(1))
    level = group.attrs["ome"]["multiscales"][0]["datasets"][0]
    np.testing.assert_array_equal(group[level["path"]][...], made.array)
    scale, translation = level["coordinateTransformations"]
    # Voxel (z, y, x) lies where the affine says, read from NGFF alone.
    index = np.array([4, 5, 6])
    place = index * scale["scale"] + translation["translation"]
    np.testing.assert_allclose(place[::-1], (made.affine @ [*index, 1])[:3])
    np.testing.assert_array_equal(group.attrs["radloop"]["affine"], made.affine)


def test_packed_cases_of_different_sizes_state_none(tmp_path):
    record = write(tmp_path, 3, FIXED)
    ome = zarr.open_group(str(tmp_path / record.path / "voxels"), mode="r").attrs["ome"]
    assert transforms(ome) == [{"type": "scale", "scale": [1.0, 1.0, 1.0, 1.0]}]
    assert all("unit" not in axis for axis in ome["multiscales"][0]["axes"])


def test_packed_cases_of_one_size_state_it():
    ome = multiscale(axis_aligned(), packed=True)
    assert transforms(ome) == [{"type": "scale", "scale": [1.0, 3.0, 2.0, 1.0]}]
