"""`python -m tasks.phantom` writes each archive and names a wrong choice."""

import pytest

from tasks.phantom.__main__ import KINDS, main

SIZES = {
    "chest": ["--shape", "8", "48", "48", "--spacing", "8", "7", "7"],
    "brain": ["--shape", "12", "32", "32", "--spacing", "12", "6", "6"],
    "wrist": ["--shape", "96", "72", "--spacing", "1.3", "1.3"],
    "breast": ["--shape", "96", "96", "--spacing", "0.45", "0.45"],
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_archive_is_written_with_its_truth(kind, tmp_path, capsys):
    assert main([kind, "--out", str(tmp_path), "--patients", "1", *SIZES[kind]]) == 0
    assert list((tmp_path / "dicom").rglob("*.dcm"))
    rows = (tmp_path / "truth" / "labels.csv").read_text().splitlines()
    assert len(rows) == 2
    assert str(tmp_path / "truth" / "labels.csv") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["chest", "--shape", "8", "48"], "--shape of chest is 3 positive numbers"),
        (["wrist", "--spacing", "1", "2"], "the same for rows and columns"),
        (["breast", "--layout", "brats2023"], "for the brain"),
        (["brain", "--patients", "0"], "at least 1"),
        (["knee"], "invalid choice"),
    ],
)
def test_a_wrong_choice_is_named(arguments, word, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--out", str(tmp_path)])
    assert word in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
