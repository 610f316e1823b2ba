"""An application at `standard`: the network against the classical way, through the demo's command.

Patients are of the seed that `radloop demo --difficulty` has, which nothing was developed on. What
a test changes is the budget: more patients or epochs than a demonstration of minutes has.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flows.data import data_folder
from flows.demo_scenarios import Drawn, parts_of
from tasks.serve.names import load_names
from tasks.serve.tracking import Tracker, children_of, search
from tests.flows.running import Place

LONGEST = 3 * 3600
"""Seconds: an hour on two idle cores, and a machine that does other work beside it."""

BEATS = "beats the policy minimum and the classical baseline"
"""How a demonstration ends where the paired difference is shown as well."""


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def longer(name: str, changes: Mapping[str, str]) -> str:
    """Return the text of a scenario with another budget; each change has to be found in it."""
    text = (data_folder("deployments") / "scenarios" / f"{name}.yaml").read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, f"{name} does not say {old!r} once"
        text = text.replace(old, new)
    return text


def demonstrated(
    place: Place, demo: str, *, changes: Mapping[str, str], patients: int | None = None
) -> str:
    """Run a demonstration of one scenario at `standard` to its end; return what it said.

    Parameters
    ----------
    place : Place
        With a home that has seen nothing.
    demo : str
        One of :data:`flows.demo_scenarios.DEMOS`.
    changes : mapping
        Text of the scenario to what stands there instead.
    patients : int, optional
        More than the demonstration draws. Not for the brain, whose baseline draws its number again.
    """
    (part,) = parts_of(demo, "standard")
    own = place.home / "scenarios"
    own.mkdir(parents=True)
    place.home.chmod(0o700)
    (own / f"{part.scenario}.yaml").write_text(longer(part.scenario, changes))
    if patients is not None:
        assert isinstance(part.source, Drawn)
        drawn = {**part.source.options, "patients": patients, "seed": part.source.seed}
        part.source.write(place.home / "demo" / part.folder, **drawn)
    words = ("demo", "--scenario", demo, "--difficulty", "standard")
    try:
        said = place.radloop(*words, timeout=LONGEST).ok().out
    finally:
        assert not place.close()
    print(said)
    return said


def tracked(place: Place, scenario: str) -> Tracker:
    """Return where the scenario's runs are written down."""
    names = load_names(data_folder("mlflow") / "names.yaml")
    return Tracker(f"sqlite:///{place.home / 'mlflow.db'}", scenario, names)


def figure(run, side: str, metric: str) -> Figure:
    """Return a figure of a run: `side` is ``oof`` or ``test``."""
    return Figure(*(run.data.metrics[f"{side}/{metric}{end}"] for end in ("", "_lo", "_hi")))


def candidates(place: Place, scenario: str, metric: str) -> dict[str, Figure]:
    """Return what each candidate reaches out of fold, all on the same patients."""
    tracker = tracked(place, scenario)
    (training,) = search(tracker, "tags.kind = 'training'")
    below = set(children_of(tracker, training.info.run_id, "candidate"))
    runs = [run for run in search(tracker, "tags.kind = 'candidate'") if run.info.run_id in below]
    found = {run.info.run_name: figure(run, "oof", metric) for run in runs}
    for name, one in found.items():
        print(f"{scenario} out of fold, {metric}: {name} {one}")
    return found


def beside(place: Place, scenario: str, metric: str) -> tuple[Figure, Figure]:
    """Return the champion's and the other tool's figure on the same test patients."""
    tracker = tracked(place, scenario)
    (network,) = search(tracker, "tags.kind = 'training'")
    (baseline,) = search(tracker, "tags.kind = 'evaluation'")
    ours, theirs = (figure(run, "test", metric) for run in (network, baseline))
    print(f"{scenario} on the test side, {metric}: network {ours}, baseline {theirs}")
    return ours, theirs
