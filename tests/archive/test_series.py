"""The files of a series are read ahead of parsing, each once and each as its digest promises."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from tasks.archive.series import READ_AHEAD, groups_of
from tasks.archive.sources import FileRef, digest_of
from tasks.archive.volume import read_volume
from tasks.errors import BadCase
from tasks.phantom.ct import write_ct_series

SLICES = 2 * READ_AHEAD + 3


@pytest.fixture
def series(tmp_path):
    write_ct_series(tmp_path / "files", shape=(SLICES, 16, 20), seed=5)
    found = []
    for path in sorted((tmp_path / "files").rglob("*.dcm")):
        data = path.read_bytes()
        found.append(FileRef(str(path), None, digest_of(data).hex(), len(data)))
    assert len(found) == SLICES
    return found


def packed(series, place):
    with zipfile.ZipFile(place, "w") as archive:
        for number, ref in enumerate(series):
            archive.write(ref.path, f"{number}.dcm")
    return [
        replace(ref, path=str(place), member=f"{number}.dcm") for number, ref in enumerate(series)
    ]


def test_a_packed_series_is_the_series_of_the_folder(series, tmp_path):
    plain = read_volume("dicom", series)
    zipped = read_volume("dicom", packed(series, tmp_path / "a.zip"))
    mixed = [*packed(series, tmp_path / "b.zip")[:7], *series[7:]]
    for other in (zipped, read_volume("dicom", mixed)):
        np.testing.assert_array_equal(plain.array, other.array)
        np.testing.assert_array_equal(plain.affine, other.affine)


@pytest.mark.parametrize("number", [0, READ_AHEAD, SLICES - 1])
@pytest.mark.parametrize(
    "shape", [lambda series, place: series, packed], ids=["in a folder", "packed"]
)
def test_a_file_that_changed_is_told_whichever_it_is(series, tmp_path, number, shape):
    refs = list(shape(series, tmp_path / "a.zip"))
    refs[number] = replace(refs[number], digest="0" * 32)
    with pytest.raises(BadCase, match="file_changed"):
        groups_of(refs)


def test_a_file_that_is_gone_is_told(series, tmp_path):
    series[READ_AHEAD + 1] = replace(series[READ_AHEAD + 1], path=str(tmp_path / "gone"))
    with pytest.raises(BadCase, match="file_missing"):
        groups_of(series)


def test_one_content_counts_once_with_and_without_a_known_digest(series):
    unknown = [replace(ref, digest="") for ref in series]
    for given in ([*series, *series], [*unknown, *unknown]):
        (group,) = groups_of(given)[0]
        assert len(group.frames) == SLICES
