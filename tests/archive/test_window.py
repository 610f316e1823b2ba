"""The window of a volume: of the files, of the frames' functional groups, or none."""

import numpy as np
import pytest

from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tests.archive.made_dicom import encode, header
from tests.archive.made_enhanced import enhanced, item, save

NOISE = np.random.default_rng(0).integers(0, 4096, (3, 8, 8)).astype(np.uint16)


def window(folder, windows, **more):
    """Write one slice a window and return the fact of the volume they make."""
    refs = []
    for number, (level, width) in enumerate(windows, start=1):
        path = folder / f"{number}.dcm"
        pair = {"WindowCenter": level, "WindowWidth": width}
        stated = {keyword: value for keyword, value in pair.items() if value is not None}
        path.write_bytes(encode(header(number, **stated, **more)))
        refs.append(FileRef(str(path), None, "", path.stat().st_size))
    return read_volume("dicom", refs).facts["window"]


def test_the_window_of_a_ct_is_that_of_its_slices(tmp_path):
    found = window(tmp_path, [(40, 400)] * 3)
    assert found == {"level": 40.0, "width": 400.0, "function": "linear"}


def test_of_several_windows_the_first_counts(tmp_path):
    found = window(tmp_path, [([-600, 40], [1500, 400])] * 2)
    assert (found["level"], found["width"]) == (-600.0, 1500.0)


def test_windows_that_differ_from_slice_to_slice_become_their_medians(tmp_path):
    found = window(tmp_path, [(300, 700), (320, 640), (900, 2000)], Modality="MR")
    assert (found["level"], found["width"]) == (320.0, 700.0)


def test_the_function_is_kept(tmp_path):
    assert window(tmp_path, [(40, 400)], VOILUTFunction="SIGMOID")["function"] == "sigmoid"


@pytest.mark.parametrize(
    ("stated", "more"),
    [
        ((None, None), {}),
        ((40, 0.5), {}),
        ((40, 0), {"VOILUTFunction": "LINEAR_EXACT"}),
        ((40, 400), {"VOILUTFunction": "CURVED"}),
        ((None, 400), {}),
    ],
)
def test_a_window_that_cannot_be_applied_is_none(tmp_path, stated, more):
    assert window(tmp_path, [stated] * 2, **more) is None


def test_a_narrow_window_is_applied_where_its_function_allows(tmp_path):
    found = window(tmp_path, [(0.4, 0.5)], VOILUTFunction="LINEAR_EXACT")
    assert found == {"level": 0.4, "width": 0.5, "function": "linear_exact"}


@pytest.mark.parametrize("where", ["frame", "shared"])
def test_the_window_of_an_enhanced_file_is_in_its_functional_groups(tmp_path, where):
    dataset = enhanced([(0, 0, 2.0 * k) for k in range(3)], NOISE)
    if where == "shared":
        stated = item(WindowCenter="500", WindowWidth="900")
        dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = [stated]
    else:
        for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            frame.FrameVOILUTSequence = [item(WindowCenter=f"{490 + 10 * k}", WindowWidth="900")]
    path = save(dataset, tmp_path / "a.dcm")
    volume = read_volume("dicom", [FileRef(str(path), None, "", path.stat().st_size)])
    assert volume.facts["window"] == {"level": 500.0, "width": 900.0, "function": "linear"}
