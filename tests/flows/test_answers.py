"""What is told of a mask is what its image can tell: a volume, an area, or pixels."""

from types import SimpleNamespace

import numpy as np
import pytest

from flows.answers import answer_row
from tasks.learn.judgement import Judgement
from tests.labels.grids import ORIENTATIONS

OBLIQUE = ORIENTATIONS["oblique"]
"""Voxels of 2.5 x 0.8 x 0.7 mm."""


@pytest.mark.parametrize(
    ("depth", "sized", "expected"),
    [
        (3, True, {"mass ml": 4 * 2.5 * 0.8 * 0.7 / 1000}),
        (1, True, {"mass mm2": 4 * 0.8 * 0.7}),
        (1, False, {"mass px": 4.0}),
        (3, False, {"mass voxels": 4.0}),
    ],
)
def test_a_picture_has_an_area_and_no_volume(depth, sized, expected, tmp_path):
    mask = np.zeros((depth, 5, 6), np.uint8)
    mask[0, 1:3, 1:3] = 1
    spec = SimpleNamespace(measured=(), classes=("background", "mass"), plan=None, recipe={})
    one = Judgement("c", "", mask=mask, image=mask, affine=OBLIQUE, sized=sized)
    body = SimpleNamespace(outputs=SimpleNamespace(masks=False, overlays=False))
    row = answer_row(SimpleNamespace(spec=spec), one, None, (), body, tmp_path)
    assert row.measures == pytest.approx(expected)
