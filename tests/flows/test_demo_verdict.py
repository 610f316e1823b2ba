"""A demonstration ends in plain words, and the baseline of gliomas is of the very patients."""

from types import SimpleNamespace

import numpy as np
import pytest

from flows.data import data_folder
from flows.demo_threshold import drawn_again, gliomas, told_beside
from flows.demo_verdict import told_verdict
from flows.orders import orders_of
from tasks.archive.nifti import read_nifti
from tasks.archive.sources import FileRef
from tasks.imaging.otsu_glioma import otsu_glioma
from tasks.imaging.recipe import fit
from tasks.imaging.source import read_source
from tasks.labels.case_mask import case_mask
from tasks.phantom.write_brain import write_brain_archive
from tasks.serve.baseline import beside_baseline
from tasks.serve.verdict import GateConfig
from tests.flows.test_box_labels import Made
from tests.serve.test_baseline import CONFIG, outcome

PASSED = {
    "chosen": "net", "action": "promote", "reason": "Promoted: dice .8 exceeds .6.",
    "baseline": None, "beats_baseline": None, "is_baseline": False, "network_refused": False,
}  # fmt: skip

BOTH = "champion net beats the policy minimum and the classical baseline"
SHOWN = "refused as a demonstration, because "


def test_a_refusal_gives_its_reason():
    refused = PASSED | {"action": "refuse", "reason": "Refused: dice .5 is below .6."}
    assert told_verdict(refused, None) == ["refused, because dice .5 is below .6."]


def test_what_a_person_has_to_decide_is_refused_by_the_demonstration_alone():
    reason = "Undecidable: 8 patients decide nothing; a person has to decide."
    asked = PASSED | {"action": "ask", "reason": reason}
    (line,) = told_verdict(asked, None)
    assert line == f"{SHOWN}8 patients decide nothing; a person has to decide."


@pytest.mark.parametrize("by", ["folds", "threshold"])
@pytest.mark.parametrize("beaten", [True, False])
def test_a_champion_is_told_beside_the_classical_baseline(by, beaten):
    versus, mine = None, {}
    if by == "threshold":
        # Of the threshold to the champion: below 0 where the champion is better.
        versus = told_beside("Dice .6", (-0.2, -0.3, -0.1 if beaten else 0.1))
        figures = ("Dice .6; the champion's is better by +0.200", "to +0.300")
    else:
        net = outcome("net", "network", 0.6 if beaten else 3.0)
        found = beside_baseline([net, outcome("svm-rbf", "tabular", 2.0)], "net", CONFIG)
        mine = {"baseline": found.sentence, "beats_baseline": found.beaten}
        figures = ("baseline svm-rbf: auroc", "paired DeLong")
    first, last = told_verdict(PASSED | mine, versus)
    assert (first == BOTH) is beaten
    assert first == BOTH or first.startswith("net is champion by the policy minimum")
    assert last.startswith(SHOWN) is not beaten
    assert "refused, because" not in last
    assert ("not shown to beat the classical baseline" in last) is not beaten
    assert all(figure in last for figure in figures)


def test_where_nothing_classical_stands_beside_it_nothing_is_shown():
    first, last = told_verdict(PASSED, None)
    assert first.startswith("net is champion by the policy minimum")
    assert last == "no classical baseline stands beside it"


@pytest.mark.parametrize("asked", [True, False])
def test_of_a_classical_champion_the_network_is_refused_where_the_gate_asks_for_it(asked):
    net, forest = outcome("net", "network", 3.0), outcome("forest", "tabular", 2.0)
    found = beside_baseline([net, forest], "forest", CONFIG, GateConfig(beat_baseline=asked))
    itself = {"is_baseline": True, "beats_baseline": found.beaten, "chosen": "forest",
              "baseline": found.sentence, "network_refused": found.refused}  # fmt: skip
    first, last = told_verdict(PASSED | itself, None)
    assert first.startswith("forest is champion by the policy minimum")
    assert first.endswith("not a network.")
    assert ("net is refused, because it is not shown to beat it" in last) is asked
    assert last.startswith(f"{SHOWN}the classical baseline forest was chosen") is not asked
    assert "shown to beat it: auroc" in last


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


def test_gliomas_are_outlined_on_the_grids_of_the_very_studies(tmp_path):
    how = {"difficulty": "easy", "shape": (24, 40, 40), "spacing": (6.0, 5.0, 5.0)}
    write_brain_archive(tmp_path, patients=3, seed=3, **how)
    scenario = data_folder("deployments") / "scenarios" / "demo-brain.yaml"
    made = Made(tmp_path, scenario.read_text())
    try:
        ready = made.ready()
        cases = ready.cohort.cases
        # The test side is whoever the job says; here everybody but the first.
        job = SimpleNamespace(on=lambda _side: cases[1:])
        found = {name: rest for name, *rest in gliomas(3, 3, how)(made.home, ready, job)}
        assert list(found) == [case.case_id for case in cases[1:]]
        assert len(found) == 2
        recipe = fit(ready.scenario.recipe, None, channels=ready.scenario.cohort.channel_set)
        numbers = ready.scenario.labels.numbers
        for order in orders_of(made.home, cases[1:], ready.cohort.masks, numbers):
            volume = read_source(recipe, order)
            mask, affine = found[order.case_id]
            assert mask.shape == volume.array.shape
            np.testing.assert_allclose(affine, volume.affine, atol=1e-3)
            whole, there = mask > 0, case_mask(order, volume) > 0
            assert 2 * (whole & there).sum() / (whole.sum() + there.sum()) > 0.3
    finally:
        made.close()
