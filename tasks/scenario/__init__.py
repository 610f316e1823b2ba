"""A scenario: one YAML file that says what is done, composed of the wings' own configs.

It says what, never where: places of archives and databases are settings.  Light to import: torch,
scikit-learn and their like are named here, never loaded.
"""

from tasks.scenario.model import Scenario, scenario_hash
from tasks.scenario.public import public_copy
from tasks.scenario.text import (
    load_scenario,
    parse_scenario,
    scenario_names,
    to_yaml,
)

__all__ = [
    "Scenario",
    "load_scenario",
    "parse_scenario",
    "public_copy",
    "scenario_hash",
    "scenario_names",
    "to_yaml",
]
