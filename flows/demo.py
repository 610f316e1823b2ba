"""The whole loop on data the package brings: a real table, and synthetic radiographs."""

import time
from pathlib import Path

from flows.commands.run import tell_training
from flows.commands.start import mlflow_page
from flows.console import heading, say
from flows.home import Home
from flows.predict import predict
from flows.retrain import retrain
from flows.server import running_server
from tasks.archive.catalog import quarantine_reasons, status
from tasks.errors import RadloopError
from tasks.learn.wisconsin import wisconsin_table
from tasks.phantom.write import write_limb_archive

PATIENTS = 320
"""Invented patients: enough to learn a fracture line, few enough for minutes."""

NEW_PATIENTS = 12
BROKEN = 5
SEED = 7

SCENARIOS = ("breast-cancer", "demo-limb")


def demo(home: Home, only: str | None) -> int:
    """Run the loop for the demo's scenarios and say what was made and where it lies.

    Parameters
    ----------
    home : Home
    only : str, optional
        One of :data:`SCENARIOS`.
    """
    if only is not None and only not in SCENARIOS:
        msg = f"the demo has the scenarios {', '.join(SCENARIOS)}, not {only}"
        raise RadloopError(msg)
    started = time.monotonic()
    trained = False
    for name in (only,) if only else SCENARIOS:
        scenario = home.scenario(name)
        word = (
            "SYNTHETIC data, says nothing about patients" if scenario.synthetic else "real patients"
        )
        heading(f"{scenario.title} ({word})")
        source = home.source(str(_data(home, name)))
        found = retrain(name, source.alias)
        if found["state"] == "nothing new":
            continue
        trained = True
        tell_training(home, scenario, found["train"])
        _predict(home, name)
    _close(home, trained, time.monotonic() - started)
    return 0


def _data(home: Home, name: str) -> Path:
    """Write a scenario's data under the home, once."""
    folder = home.settings.home / "demo"
    folder.mkdir(exist_ok=True)
    if name == "breast-cancer":
        place = folder / "wisconsin.csv"
        return place if place.exists() else wisconsin_table(place)
    place = folder / "limb"
    if not (place / "labels.csv").exists():
        say(f"  drawing {PATIENTS} synthetic patients")
        write_limb_archive(place, patients=PATIENTS, seed=SEED, broken=BROKEN)
    return place


def _predict(home: Home, name: str) -> None:
    """Apply the champion, if the gate let one pass: to new images, or to its own table again."""
    from flows.evidence import tracker_for
    from tasks.serve.registry import get_alias

    if get_alias(tracker_for(home, name), name, "champion") is None:
        say("  no champion yet, so nothing is predicted")
        return
    place = home.settings.home / "demo" / "new"
    if name == "breast-cancer":
        heading("the champion on its own table; patients of the training are marked")
        source = home.source(str(home.settings.home / "demo" / "wisconsin.csv"))
    else:
        heading("the champion on new cases")
        if not (place / "labels.csv").exists():
            write_limb_archive(place, patients=NEW_PATIENTS, seed=SEED + 1, broken=1)
        source = home.source(str(place))
    found = predict(name, source.alias)
    print(f"{found['cases']} cases judged, {found['flagged']} flagged, {found['failed']} failed")
    print(f"page      {Path(found['folder']) / 'index.html'}")


def _close(home: Home, trained: bool, seconds: float) -> None:
    counts = status(home.catalog)
    heading("what there is now")
    print(
        f"catalog   {counts['patients']} patients, {counts['cases']} cases, "
        f"{sum(counts['quarantine'].values())} in quarantine"
    )
    for reason in quarantine_reasons(home.catalog):
        print(f"          {reason.n} {reason.stage}: {reason.reason}")
    print(f"store     {home.settings.store_root}: {counts['parts']} parts")
    server = running_server(home.settings, "prefect")
    print(f"Prefect   {server.url + '/runs' if server else home.settings.prefect_api_url}")
    print(f"MLflow    {mlflow_page(home.settings)}")
    if not trained:
        print("there is nothing new: every scenario of the demo has its model already")
    print(f"took {seconds:.0f} s. `radloop ui --stop` ends both servers.")
    print("next, on your own data:  radloop ingest /path/to/archive")
    print("                         radloop new my-scenario --labels labels.csv")
