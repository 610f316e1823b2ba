"""A demonstration ends in plain words, and the baseline of gliomas is of the very patients."""

import numpy as np
import pytest

from flows.demo_threshold import Versus, drawn_again
from flows.demo_verdict import told_verdict
from tasks.archive.nifti import read_nifti
from tasks.archive.sources import FileRef
from tasks.imaging.otsu_glioma import otsu_glioma
from tasks.phantom.write_brain import write_brain_archive

PASSED = {
    "chosen": "net", "action": "promote", "reason": "Promoted: dice .8 exceeds .6.",
    "baseline": None, "beats_baseline": None, "is_baseline": False,
}  # fmt: skip


def test_a_refusal_gives_its_reason():
    refused = PASSED | {"action": "refuse", "reason": "Refused: dice .5 is below .6."}
    assert told_verdict(refused, None) == ["refused, because dice .5 is below .6."]


@pytest.mark.parametrize("by", ["folds", "threshold"])
@pytest.mark.parametrize("beaten", [True, False])
def test_a_champion_is_told_beside_the_classical_baseline(by, beaten):
    sentence = "0.8 against 0.6"
    versus = Versus(sentence, beaten) if by == "threshold" else None
    mine = {} if versus else {"baseline": sentence, "beats_baseline": beaten}
    lines = told_verdict(PASSED | mine, versus)
    both = "champion net beats the policy minimum and the classical baseline"
    assert (lines[0] == both) is beaten
    assert ("not shown to be beaten" in lines[1]) is not beaten
    assert sentence in lines[1]


def test_a_classical_champion_says_why_the_network_is_refused():
    itself = {"is_baseline": True, "beats_baseline": False, "chosen": "forest",
              "baseline": "The classical baseline forest was chosen itself. net is refused, "
              "because it is not shown to beat it."}  # fmt: skip
    lines = told_verdict(PASSED | itself, None)
    assert "net is refused, because" in lines[0]
    assert lines[1].startswith("forest is champion by the policy minimum")


def test_only_those_asked_for_are_drawn_again_and_are_the_same_patients(tmp_path):
    how = {"seed": 3, "difficulty": "easy", "shape": (24, 40, 40), "spacing": (6.0, 5.0, 5.0)}
    listed = write_brain_archive(tmp_path / "all", patients=3, layout="brats2023", **how)
    everybody = drawn_again(listed.parent)
    second = list(everybody)[1]
    again = write_brain_archive(
        tmp_path / "one", patients=3, layout="brats2023", only={second}, **how
    )
    ((accession, path),) = drawn_again(again.parent).items()
    assert accession == second
    assert path.read_bytes() == everybody[second].read_bytes()

    def read(which):
        one = path.with_name(path.name.replace("t1c", which))
        return read_nifti(FileRef(str(one), None, "", one.stat().st_size)).array

    found, truth = otsu_glioma(read("t2f"), read("t1c")), read("seg")
    assert set(np.unique(found)) <= {0, 1, 2, 3}
    whole, there = found > 0, truth > 0
    # A poor outline, but of the tumour: far above what one of chance would share.
    assert 2 * (whole & there).sum() / (whole.sum() + there.sum()) > 0.3
