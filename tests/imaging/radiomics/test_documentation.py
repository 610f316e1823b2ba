"""The page on radiomics names every family, number and setting there is."""

import re
from pathlib import Path

import pytest

from tasks.imaging.features import FeaturesParameters
from tasks.imaging.radiomics import glcm, histogram, intensity, shape
from tasks.imaging.radiomics.families import FAMILIES

PAGE = (Path(__file__).parents[3] / "docs" / "radiomics.md").read_text()

CODED = {
    "intensity": intensity.CODES,
    "histogram": histogram.CODES,
    "shape": shape.CODES,
    "glcm": {**glcm.CODES, **glcm.AGGREGATIONS},
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_and_each_of_its_codes_stand_there(family):
    assert f"**`{family}`**" in PAGE
    paragraph = PAGE[PAGE.index(f"**`{family}`**") :].partition("\n\n")[0]
    for name, code in CODED.get(family, {}).items():
        assert f"`{name}` {code}" in paragraph, name


def test_every_setting_stands_there():
    table = PAGE.partition("## Families")[0]
    named = set(re.findall(r"`([a-z_]+)", table))
    assert set(FeaturesParameters.model_fields) - {"families"} <= named
    assert "families:" in table
