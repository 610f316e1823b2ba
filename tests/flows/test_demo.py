"""What the demo draws is what its scenarios read; whole demos take minutes and are run by hand."""

from dataclasses import replace

import pytest

from flows.data import data_folder
from flows.demo_scenarios import DEMOS, TOUR, Drawn, parts_of
from tasks.errors import RadloopError
from tasks.phantom.write_brain import write_brain_archive
from tasks.phantom.write_chest import write_chest_archive
from tasks.scenario import load_scenario

SMALL = {
    write_brain_archive: {"shape": (16, 24, 24), "spacing": (9.6, 8.0, 8.0)},
    write_chest_archive: {"shape": (12, 40, 40), "spacing": (8.0, 8.0, 8.0)},
}
"""Coarser drawings where those of the demo take long."""

PARTS = {part.scenario: part for parts in DEMOS.values() for part in parts}


def scenario_of(name: str):
    return load_scenario(name, (data_folder("deployments") / "scenarios",))


@pytest.mark.parametrize("name", PARTS)
def test_a_demo_draws_what_its_scenario_reads(name, tmp_path):
    part, scenario = PARTS[name], scenario_of(name)
    drawn = isinstance(part.source, Drawn)
    assert scenario.synthetic is drawn
    source = part.source
    if drawn:
        options = {**source.options, **SMALL.get(source.write, {})}
        source = replace(source, patients=2, later=1, options=options)
    place = source.data(tmp_path / part.folder)
    assert place.exists()
    if not drawn:
        assert source.new_data(tmp_path / part.folder) == place
        return
    assert len(list(place.rglob("*.dcm"))) >= 2
    labels = place / scenario.labels.file
    assert len(labels.read_text().splitlines()) > 2 if labels.is_file() else any(labels.iterdir())
    later = source.new_data(tmp_path / part.folder)
    assert later != place
    ours, theirs = ({p.name for p in at.glob("*/*/*")} for at in (place, later))
    assert theirs
    assert not ours & theirs


def test_a_drawing_that_was_stopped_is_drawn_again(tmp_path):
    calls = []

    def write(root, *, patients, seed):
        calls.append(patients)
        root.mkdir()
        (root / f"{len(calls)}.dcm").write_text("drawn")
        if len(calls) == 1:
            raise KeyboardInterrupt

    source = Drawn(write, 3, 1, {}, archive="")
    with pytest.raises(KeyboardInterrupt):
        source.data(tmp_path / "limb")
    place = source.data(tmp_path / "limb")
    assert [path.name for path in place.iterdir()] == ["2.dcm"]
    source.data(tmp_path / "limb")
    assert calls == [3, 3]


def test_an_unknown_demo_names_those_there_are():
    assert parts_of(None) == TOUR
    with pytest.raises(RadloopError, match=r"brain-tumour, .*lung-nodule, .*demo-limb, not knee"):
        parts_of("knee")


@pytest.mark.parametrize("name", [n for n in DEMOS if n != "demo-limb"])
def test_a_difficulty_draws_other_patients_elsewhere(name):
    parts = parts_of(name, "standard")
    assert parts
    for part in parts:
        easy = PARTS[part.scenario]
        assert part.folder == f"{easy.folder}-standard"
        assert part.source.options == {**easy.source.options, "difficulty": "standard"}
        assert part.source.seed != easy.source.seed
        if part.threshold:
            assert part.threshold(part.source)


@pytest.mark.parametrize("name", [None, "demo-limb"])
def test_what_is_drawn_in_one_way_has_no_difficulty(name):
    with pytest.raises(RadloopError, match="demo-limb has no difficulty"):
        parts_of(name, "hard")
