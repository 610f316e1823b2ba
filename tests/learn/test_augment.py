"""Changes are drawn within their limits and named as a scenario names them."""

import numpy as np

from tasks.learn.augment import PRESETS, AugmentConfig, draw_params, parse_augment


def test_strengths_stay_within_the_configured_limits():
    config = AugmentConfig(noise=0.3, brightness=0.2, gamma=0.4, probability=1.0)
    drawn = [draw_params(np.random.default_rng(i), config, (1, 8, 8)) for i in range(200)]
    assert max(one["noise"] for one in drawn) <= 0.3
    assert max(abs(one["brightness"]) for one in drawn) <= 0.2
    assert max(abs(np.log(one["gamma"])) for one in drawn) <= 0.4


def test_a_list_takes_names_and_strengths():
    config = parse_augment(["noise", {"rotate": 3}])
    assert config.noise == PRESETS["strong"].noise
    assert config.rotate == 3
    assert config.blur == 0
