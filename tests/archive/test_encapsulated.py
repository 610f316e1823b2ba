"""Frames are cut out of encapsulated pixels as pydicom cuts them, single ones without a copy."""

import struct

import pytest
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import JPEGLSLossless

from tasks.archive.encapsulated import encoded_frames
from tasks.errors import BadCase

FRAMES = [bytes([k]) * (10 + 2 * k) for k in range(3)]
END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def encapsulated(data, count=1, **elements):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.add_new(0x7FE00010, "OB", data)
    dataset.NumberOfFrames = count
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize("fragments", [1, 2, 3])
@pytest.mark.parametrize("has_bot", [True, False])
@pytest.mark.parametrize("end", [b"", END])
def test_the_only_frame_is_what_pydicom_gives(fragments, has_bot, end):
    data = encapsulate([FRAMES[2]], fragments_per_frame=fragments, has_bot=has_bot) + end
    (found,) = encoded_frames(encapsulated(data))
    assert bytes(found) == b"".join(generate_frames(data, number_of_frames=1))


def test_a_frame_in_one_fragment_is_a_view():
    data = encapsulate([FRAMES[1]])
    (found,) = encoded_frames(encapsulated(data))
    assert isinstance(found, memoryview)
    assert found.obj is data


def test_many_frames_are_told_apart_by_either_table():
    dataset = encapsulated(encapsulate(FRAMES), count=3)
    assert [bytes(frame) for frame in encoded_frames(dataset)] == FRAMES
    data, offsets, lengths = encapsulate_extended(FRAMES)
    table = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
    assert [bytes(frame) for frame in encoded_frames(encapsulated(data, 3, **table))] == FRAMES


def test_a_table_of_several_frames_where_one_is_promised_is_left_to_pydicom():
    dataset = encapsulated(encapsulate(FRAMES))
    expected = list(generate_frames(dataset.PixelData, number_of_frames=1))
    assert encoded_frames(dataset) == expected


@pytest.mark.parametrize("cut", [3, 8, 11, 17, 22])
def test_items_that_end_beyond_the_data_are_left_to_pydicom(cut):
    # What it makes of them lacks its end, which is looked for before it is decoded.
    data = encapsulate([FRAMES[0]])[:-cut]
    try:
        expected = list(generate_frames(data, number_of_frames=1))
    except Exception:
        expected = None
    if expected is None:
        with pytest.raises(BadCase, match="told apart"):
            encoded_frames(encapsulated(data))
    else:
        assert encoded_frames(encapsulated(data)) == expected


def test_lacking_frames_are_told():
    with pytest.raises(BadCase) as caught:
        encoded_frames(encapsulated(encapsulate(FRAMES), count=4))
    assert caught.value.reason in ("undecodable", "truncated")
