"""A scenario whose channels contradict its recipe or its candidates is refused with a sentence."""

import pytest

from tasks.errors import ScenarioError
from tasks.scenario.text import parse_scenario
from tests.flows.brats import SCENARIO


def test_the_scenario_of_four_sequences_is_obeyed():
    scenario = parse_scenario(SCENARIO)
    chosen = scenario.cohort.channel_set
    assert chosen.names == ("t1n", "t1c", "t2w", "t2f")
    assert (chosen.reference, chosen.optional) == ("t1c", ("t1n", "t2w"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (", modality_dropout: 0.4", "", "must learn to do without t1n, t2w; give it"),
        ("  required: [t1c, t2f]\n", "", "modality_dropout 0.4 and no channel may be missing"),
        ("nonzero_zscore}", "fingerprint}", "normalise learns one scale from training images"),
        ("  - {step: crop,", "  - {step: straighten}\n  - {step: crop,", "straighten is for one"),
        ("where: {sequence: t1n}", "where: {secuence: t1n}", "nearest is 'sequence'"),
    ],
)
def test_what_contradicts_its_channels_is_said(old, new, words):
    assert old in SCENARIO
    with pytest.raises(ScenarioError, match=words):
        parse_scenario(SCENARIO.replace(old, new))
