"""What `radloop demo` can show: which scenarios, on which data, and what new data follows."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flows.console import say
from flows.demo_threshold import Outlines, gliomas, masses
from tasks.errors import RadloopError
from tasks.learn.wisconsin import wisconsin_table
from tasks.phantom.processes import usable_cores
from tasks.phantom.write import write_limb_archive
from tasks.phantom.write_brain import write_brain_archive
from tasks.phantom.write_breast import write_breast_archive
from tasks.phantom.write_chest import write_chest_archive
from tasks.phantom.write_wrist import write_wrist_archive

SEED = 7
"""Of the patients that are learned from; those that come later have the next one."""

UNSEEN = 90210
"""Instead of it where a difficulty is asked for: a seed that nothing was developed on."""


@dataclass(frozen=True)
class Drawn:
    """An archive of synthetic patients, and a smaller one of later patients.

    Attributes
    ----------
    write : callable
        Writes an archive: folder, ``patients``, ``seed`` and the options below.
    patients : int
        Enough to learn from, few enough for minutes.
    later : int
        Patients the champion is applied to.
    options : mapping
        Further arguments of ``write``.
    archive : str
        The part of the folder that is ingested; truth lies beside it.
    seed : int
        Of the patients that are learned from.
    """

    write: Callable[..., Path]
    patients: int
    later: int
    options: Mapping[str, Any] = field(default_factory=lambda: {"difficulty": "easy"})
    archive: str = "dicom"
    seed: int = SEED

    def data(self, folder: Path) -> Path:
        """Return the archive to learn from, drawing it the first time."""
        return self._drawn(folder, self.patients, self.seed)

    def new_data(self, folder: Path) -> Path:
        """Return the archive of later patients."""
        return self._drawn(folder.with_name(f"{folder.name}-new"), self.later, self.seed + 1)

    def _drawn(self, folder: Path, patients: int, seed: int) -> Path:
        if not folder.exists():
            say(f"  drawing {patients} synthetic patients")
            # Whole or not at all: a run that was stopped must not leave half an archive.
            beside = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(beside, ignore_errors=True)
            self.write(beside, patients=patients, seed=seed, **self.options)
            beside.replace(folder)
        return folder / self.archive


@dataclass(frozen=True)
class Wisconsin:
    """The real table that scikit-learn brings; there is no other one to apply a champion to."""

    def data(self, folder: Path) -> Path:
        """Return the table, written the first time."""
        place = folder.with_suffix(".csv")
        return place if place.exists() else wisconsin_table(place)

    new_data = data


@dataclass(frozen=True)
class Part:
    """One scenario of a demonstration, and the data it runs on."""

    scenario: str
    """Name of a scenario file that comes with radloop."""
    source: Drawn | Wisconsin
    folder: str
    """Below ``demo`` in the home."""
    threshold: Callable[[Drawn], Outlines] | None = None
    """How a threshold outlines the test cases too, as the classical baseline of masks."""

    def drawn(self, difficulty: str) -> "Part":
        """Return the same on patients of another difficulty, that nothing was developed on.

        Raises
        ------
        RadloopError
            Where patients are real, or drawn in one way alone.
        """
        if not isinstance(self.source, Drawn) or "difficulty" not in self.source.options:
            raise RadloopError(f"{self.scenario} has no difficulty: leave --difficulty out")
        options = {**self.source.options, "difficulty": difficulty}
        source = replace(self.source, options=options, seed=UNSEEN)
        return replace(self, source=source, folder=f"{self.folder}-{difficulty}")


def _gliomas(drawn: Drawn) -> Outlines:
    return gliomas(drawn.patients, drawn.seed, drawn.options)


def _masses(_drawn: Drawn) -> Outlines:
    return masses


_LIMB = Part(
    "demo-limb",
    Drawn(write_limb_archive, 320, 12, {"broken": 5}, archive=""),
    "limb",
)
_TABLE = Part("breast-cancer", Wisconsin(), "wisconsin")
_BRAINS = Drawn(write_brain_archive, 40, 4, {"difficulty": "easy", "processes": usable_cores()})
_BRAIN = Part("demo-brain", _BRAINS, "brain", _gliomas)
_CHEST = Part("demo-lung", Drawn(write_chest_archive, 40, 4), "chest")
_WRIST = Part("demo-fracture", Drawn(write_wrist_archive, 320, 8), "wrist")
_BREASTS = Drawn(write_breast_archive, 320, 8)
_BREAST = Part("demo-ultrasound", _BREASTS, "breast")
_OUTLINE = Part("demo-ultrasound-mask", _BREASTS, "breast", _masses)

TOUR = (_TABLE, _LIMB)
"""What is shown when nothing is asked for."""

DEMOS: Mapping[str, tuple[Part, ...]] = MappingProxyType(
    {
        "brain-tumour": (_BRAIN,),
        "breast-cancer": (_TABLE, _BREAST),
        "fracture": (_WRIST,),
        "lung-nodule": (_CHEST,),
        "breast-outline": (_OUTLINE,),
        "demo-limb": (_LIMB,),
    }
)
"""Name -> scenarios, in the order in which they run."""


PAIRED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"breast-cancer": ("demo-ultrasound", "breast-cancer")}
)
"""Demonstration -> scenarios whose chosen candidates are fused at its end."""


def parts_of(name: str | None, difficulty: str | None = None) -> tuple[Part, ...]:
    """Return the scenarios of a demonstration.

    Parameters
    ----------
    name : str, optional
        One of :data:`DEMOS`, else the tour.
    difficulty : str, optional
        Of what is drawn; what is real stays as it is.

    Raises
    ------
    RadloopError
        There is none of this name, which lists those there are; or nothing of it is drawn by
        difficulty.
    """
    if name is not None and name not in DEMOS:
        raise RadloopError(f"the demo has the scenarios {', '.join(DEMOS)}, not {name}")
    parts = TOUR if name is None else DEMOS[name]
    if difficulty is None:
        return parts
    return tuple(part.drawn(difficulty) for part in parts if isinstance(part.source, Drawn))
