"""What the golden test runs each mask step on, and with which parameters."""

from tests.imaging.masks import phantoms

EXAMPLES = {
    "body": [{}, {"method": "otsu"}],
    "lung": [{}, {"threshold": -400, "close_mm": 4}],
    "bone": [{}, {"low": 200, "high": 400}],
    "brain": [{}],
    "breast": [{}],
    "collimation": [{}, {"inside_mm": 3}],
    "otsu": [{}, {"dark": True}],
    "multi_otsu": [{"classes": 3}],
    "watershed": [{"mask": "balls"}],
    "largest_components": [{"mask": "balls"}, {"threshold": 100, "count": 2}],
    "fill": [{"mask": "balls"}, {"mask": "balls", "by": "slice", "name": "filled"}],
    "crop_to_mask": [{"mask": "balls", "margin_mm": 3}],
    "apply_mask": [{"mask": "balls"}, {"mask": "balls", "outside": -1.5}],
}

_CHEST, _BALLS = phantoms.chest()[0], phantoms.balls()
_OWN = {
    "brain": phantoms.head()[0],
    "breast": phantoms.mammogram()[0],
    "collimation": phantoms.framed()[0],
}

PICTURES = {
    name: _OWN.get(name, _BALLS if "balls" in str(EXAMPLES[name]) else _CHEST) for name in EXAMPLES
}
