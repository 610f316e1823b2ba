"""Every image that pydicom ships decodes to what pydicom's own decoders give, or is refused."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import get_decoder

from tasks.archive.elements import quiet
from tasks.archive.grey import LUMINANCE, shown_grey
from tasks.archive.pixel_format import frame_count, transfer_syntax
from tasks.archive.pixels import StoredPixels, decode_frame, decode_frames, read_dataset
from tasks.errors import BadCase

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"

REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "undecodable",
    "MR_small_padded.dcm": "wrong_length",
    "MR_truncated.dcm": "truncated",
    "badVR.dcm": "invalid_header",
    "liver_1frame.dcm": "unsupported_bits",
    "liver_expb_1frame.dcm": "unsupported_bits",
}
"""Files that cannot be decoded whole: damaged, longer than their image, or one bit a pixel."""

UNREADABLE_THERE = {"JPEG-lossy.dcm"}
"""pydicom's plugins fail on its 12-bit baseline stream."""

FRAMES = 3
"""Frames compared of each file; a cine has 30 alike."""

LOSSY_GREY = 1
"""Levels by which decoders of one lossy stream may differ: each rounds its own transform."""


def images():
    for path in sorted(FOLDER.iterdir()):
        if path.suffix == ".dcm":
            with quiet():
                header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
                if "Rows" in header:
                    yield path


@pytest.mark.parametrize("path", list(images()), ids=lambda path: path.name)
def test_stored_values_are_those_of_pydicom(path):
    dataset = read_dataset(path.read_bytes())
    if path.name in REFUSED:
        with pytest.raises(BadCase) as caught:
            decode_frame(dataset)
        assert caught.value.reason == REFUSED[path.name]
        return
    pixels, count = StoredPixels(dataset), min(frame_count(dataset), FRAMES)
    ours = list(decode_frames([(pixels, k) for k in range(count)], keep=True))
    assert len({frame.shape for frame in ours}) == 1
    if path.name in UNREADABLE_THERE:
        return
    syntax = transfer_syntax(dataset)
    with quiet():
        dataset = pydicom.dcmread(path, force=True)
        dataset.file_meta.TransferSyntaxUID = syntax
        theirs, _ = get_decoder(syntax).as_array(dataset, raw=not _ybr_jpeg(dataset, syntax))
    theirs = theirs if frame_count(dataset) > 1 else theirs[None]
    limit = LOSSY_GREY if syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51") else 0
    if _ybr_jpeg(dataset, syntax):
        # Chroma may be spread over its pixels in more than one way; the luminance is stored.
        shown, _ = shown_grey(dataset, ours[0])
        assert np.abs(shown - theirs[0] @ np.array(LUMINANCE)).mean() <= LOSSY_GREY
        return
    for mine, other in zip(ours, theirs, strict=False):
        np.testing.assert_allclose(mine.astype(float), other.astype(float), atol=limit, rtol=0)


def _ybr_jpeg(dataset, syntax):
    return syntax == "1.2.840.10008.1.2.4.50" and "YBR" in dataset.PhotometricInterpretation
