"""The contact sheet of a recipe: what stands on it, who may read it, where a recipe stopped."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from tasks.imaging.recipe import Image, fit
from tasks.imaging.steps import STEPS, parse_steps
from tasks.serve.overlays import PALETTE
from tasks.serve.preview import bars, case_sheet, write_preview

CERTIFICATE = {
    "n_frames": 6, "orientation": "axial", "spacing": [3.0, 1.0, 1.0], "jitter_mm": 0.0,
    "tilt_deg": 0.0, "verdict": "accept", "reason": "", "notes": ["two files were doubles"],
}  # fmt: skip


def volume(masks=None):
    array = np.zeros((6, 20, 30), np.int16)
    array[4:, 5:8, 10:13] = 1000
    affine = np.diag([3.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    return Image(array, affine, masks or {}, {"modality": "CT"})


def recipe_of(*steps):
    return fit(parse_steps(steps), None)


def picture(uri):
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_every_step_is_one_view_with_its_own_grid_and_values():
    sheet = case_sheet(
        "a" * 32,
        volume(),
        recipe_of({"step": "clip", "low": 0, "high": 500}, {"step": "crop", "shape": [2, 10, 30]}),
        CERTIFICATE,
        0.5,
    )
    assert [view.name for view in sheet.views] == ["as read", "clip", "crop"]
    assert [view.high for view in sheet.views] == [1000, 500, 0]
    assert sheet.views[2].shape == (2, 10, 30)
    assert sheet.views[2].spacing == pytest.approx((3, 1, 1))
    assert sheet.views[0].milliseconds == 500
    assert all(sum(view.histogram) == pytest.approx(1) for view in sheet.views)


def test_a_volume_is_seen_from_three_sides_with_the_head_up():
    (view,) = case_sheet("b" * 32, volume({"ball": (volume().array > 0).astype(np.uint8)}),
                         recipe_of(), CERTIFICATE).views  # fmt: skip
    assert len(view.pictures) == 3
    coronal = picture(view.pictures[1]).astype(int).sum(axis=(1, 2))
    # The ball lies in the highest slices, which must be drawn at the top.
    assert coronal[: len(coronal) // 3].sum() > coronal[-(len(coronal) // 3) :].sum()
    assert view.masks == {"ball": pytest.approx(18 / 3600)}


def test_a_sagittal_volume_is_upright_too_and_a_cine_is_seen_frame_by_frame():
    """Its slices run to the left, rows to the feet, columns to the back; a ball in the forehead."""
    array = np.zeros((9, 40, 30), np.int16)
    array[3:6, 4:8, 5:8] = 1000
    affine = np.eye(4)
    affine[:3, :3] = np.array([[2, 0, 0], [0, 0, 1], [0, -1, 0]])
    ball = {"ball": (array > 0).astype(np.uint8)}
    (view,) = case_sheet("e" * 32, Image(array, affine, ball), recipe_of(), CERTIFICATE).views
    across, front = (picture(uri).astype(int).sum(axis=2) for uri in view.pictures[1:])
    for plane in (across, front):
        rows = plane.sum(axis=1)
        assert rows[: len(rows) // 3].sum() > 0 == rows[-(len(rows) // 2) :].sum()
    # 18 mm from right to left, 30 from front to back, 40 from head to feet.
    assert across.shape[1] / across.shape[0] == pytest.approx(18 / 30, rel=0.05)
    assert front.shape[1] / front.shape[0] == pytest.approx(18 / 40, rel=0.05)
    cine = Image(array, affine, {}, {"axis": "time"})
    (view,) = case_sheet("f" * 32, cine, recipe_of(), CERTIFICATE).views
    assert len(view.pictures) == 1


def test_the_smaller_of_two_masks_lies_above_whichever_was_made_first():
    body, bone = np.ones((2, 6, 20, 30), np.uint8)
    bone[:, :, 15:] = 0
    for masks in ({"body": body, "bone": bone}, {"bone": bone, "body": body}):
        (view,) = case_sheet("b" * 32, volume(masks), recipe_of(), CERTIFICATE).views
        colours = {tuple(colour) for colour in picture(view.pictures[0]).reshape(-1, 3).tolist()}
        assert set(PALETTE[:2]) <= colours


def test_a_step_that_refuses_ends_the_sheet_with_its_reason():
    recipe = recipe_of(
        {"step": "clip", "low": -10, "high": 9},
        {"step": "crop", "shape": "foreground", "threshold": 50},
    )
    sheet = case_sheet("c" * 32, volume(), recipe, CERTIFICATE)
    assert [view.name for view in sheet.views] == ["as read", "clip"]
    assert sheet.problem.startswith("crop: ")
    assert "50" in sheet.problem


def test_a_step_that_breaks_ends_its_sheet_as_it_would_its_case(monkeypatch):
    def broken(image, params):
        raise ZeroDivisionError("of patient 4711")

    monkeypatch.setitem(STEPS, "clip", replace(STEPS["clip"], apply=broken))
    sheet = case_sheet("c" * 32, volume(), recipe_of({"step": "clip", "low": 0, "high": 9}), {})
    assert sheet.problem == "clip: failed:ZeroDivisionError"


def test_the_page_shows_it_all_and_only_its_user_may_read_it(tmp_path):
    sheet = case_sheet("d" * 32, volume(), recipe_of({"step": "percentile_clip"}), CERTIFICATE)
    path = tmp_path / "new" / "page.html"
    for _ in range(2):
        write_preview(path, [sheet], title="A <b>title", scenario="x", synthetic=True,
                      fitted="Fitted on nothing.", warnings=["mind the gap"])  # fmt: skip
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "A &lt;b&gt;title" in text
    for words in ("SYNTHETIC DATA", "mind the gap", "d" * 32, "percentile_clip", "two files were",
                  "accept", "RESEARCH USE ONLY"):  # fmt: skip
        assert words in text
    assert len(re.findall("data:image/png", text)) == 6
    assert "http" not in text.replace("http-equiv", "")


def test_bars_fill_the_width_and_the_tallest_touches_the_top():
    path = bars([0.0, 0.25, 1.0, 0.0], 40, 10)
    assert path.startswith("M0 10")
    assert "L20.0 0.0" in path
    assert "L10.0 5.0" in path
    assert path.endswith("L40 10Z")
