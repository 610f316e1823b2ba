"""Every reason of quarantine that the sources use has a remedy, and every remedy a reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks
from tasks.archive.reasons import FAILED, REMEDIES, remedy

ROOT = Path(tasks.__file__).parent

UIDS = ("sop_class", "sop_uid", "series_uid", "study_uid")
NEEDED_UIDS = UIDS[:2]

COMPUTED = {
    ("archive/headers.py", "f'missing_{name}'"): tuple(f"missing_{name}" for name in NEEDED_UIDS),
    ("archive/headers.py", "f'invalid_{name}'"): tuple(f"invalid_{name}" for name in UIDS),
    ("archive/reidentify.py", "problem"): (
        "not_a_result",
        "other_patient",
        "other_sex",
        "other_accession",
        "other_study",
        "other_images",
    ),
    ("learn/judge.py", "f'failed:{type(error).__name__}'"): (FAILED + "ValueError",),
}
"""Reasons that are put together while running, with all that they can become."""

PASSED_ON = {
    ("archive/aside.py", "REASON"),
    ("archive/commits.py", "reason"),
    ("archive/grids.py", "reason"),
    ("archive/ring.py", "*answer.bad"),
    ("archive/pixels.py", "error.reason"),
    ("archive/intake_run.py", "problem.reason"),
    ("archive/metaimage.py", "REASON"),
    ("archive/nrrd.py", "REASON"),
    ("archive/quarantine.py", "reason"),
    ("archive/refused.py", "why"),
    ("archive/volume.py", "certificate.reason"),
    ("archive/volume.py", "reason"),
    ("archive/walk.py", "reason"),
    ("imaging/channels.py", "MISSING"),
    ("imaging/channels.py", "bad.reason"),
    ("imaging/coregister.py", "bad.reason"),
}
"""Expressions that only hand on a reason which stands elsewhere in the same wing."""

TABLED = {
    "archive/geometry.py": (
        "mixed_orientation missing_slices uneven_spacing gantry_tilt needs_4d_grouping "
        "duplicate_positions"
    ),
    "archive/volume.py": ("mixed_matrix mixed_spacing mixed_frame_of_reference"),
    "archive/walk.py": "unreadable_folder unreadable_file not_a_regular_file",
    "cohort/channels.py": "several_series missing_channel",
}
"""Reasons written as plain words where no call shows them."""


def _used() -> Iterator[tuple[str, ast.expr]]:
    """Yield (module, expression) of every reason that a call in tasks/ names."""
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REASON":
                # The one reason of a reader of one format.
                yield module, node.value
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name == "BadCase" and node.args:
                yield module, node.args[0]
            if name in ("quarantine_values", "add_quarantine"):
                yield from ((module, word.value) for word in node.keywords if word.arg == "reason")


def _reasons() -> dict[str, str]:
    """Every reason -> the module it stands in."""
    found = {word: module for module, words in TABLED.items() for word in words.split()}
    for module, expression in _used():
        text = ast.unparse(expression)
        if isinstance(expression, ast.Constant):
            found[expression.value] = module
        elif (module, text) in COMPUTED:
            found.update(dict.fromkeys(COMPUTED[module, text], module))
        else:
            assert (module, text) in PASSED_ON, (
                f"tasks/{module} makes a reason of {text}: say in COMPUTED what it can become"
            )
    return found


def test_every_reason_has_a_remedy():
    missing = {reason: module for reason, module in _reasons().items() if remedy(reason) is None}
    assert not missing


def test_every_remedy_has_a_reason():
    unused = REMEDIES.keys() - _reasons().keys()
    assert not unused, f"nobody gives {sorted(unused)} any more"


def test_words_that_no_call_shows_stand_in_their_module():
    for module, words in TABLED.items():
        text = (ROOT / module).read_text("utf-8")
        assert [word for word in words.split() if f'"{word}"' not in text] == []


@pytest.mark.parametrize("reason", sorted(REMEDIES))
def test_a_remedy_is_half_a_sentence_on_one_line(reason):
    text = REMEDIES[reason]
    assert "\n" not in text
    assert not text.endswith(".")
    assert text[0].islower()
    assert 20 < len(text) <= 90


def test_an_unknown_reason_has_no_remedy():
    assert remedy("no_such_reason") is None
