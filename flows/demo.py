"""The whole loop on data the package brings or draws: from an archive to answers on new images."""

import time
from pathlib import Path
from typing import Any

from flows.commands.run import tell_training
from flows.commands.start import mlflow_page
from flows.console import heading
from flows.demo_pairing import fuse_paired
from flows.demo_scenarios import PAIRED, Part, parts_of
from flows.demo_threshold import beside_threshold
from flows.demo_verdict import told_verdict
from flows.home import Home
from flows.predict import predict
from flows.retrain import retrain
from flows.server import running_server
from tasks.archive.catalog import quarantine_reasons, status

RESULTS = (
    ("overlays", "overlays/*.png"),
    ("masks", "masks/*.nii.gz"),
    ("SEG", "**/*_seg.dcm"),
    ("SR", "**/*_sr.dcm"),
)
"""What a prediction leaves beside its page and table: a word, and where it lies in the folder."""


def demo(home: Home, only: str | None, difficulty: str | None = None) -> int:
    """Run the loop for the demo's scenarios and say what was made and where it lies.

    Parameters
    ----------
    home : Home
    only : str, optional
        One of :data:`flows.demo_scenarios.DEMOS`.
    difficulty : str, optional
        Of the phantoms; then of patients that nothing was developed on.
    """
    parts = parts_of(only, difficulty)
    started = time.monotonic()
    trained = {part.scenario: _run(home, part) for part in parts}
    together = PAIRED.get(only or "", ())
    if together and all(trained.get(name) for name in together):
        fuse_paired(home, {name: trained[name] for name in together})
    _close(home, any(trained.values()), time.monotonic() - started)
    return 0


def _run(home: Home, part: Part) -> dict[str, Any]:
    """Run the loop for a scenario; return its training, empty when it had its model already."""
    from flows.evidence import tracker_for
    from tasks.serve.registry import get_alias

    scenario = home.scenario(part.scenario)
    word = "SYNTHETIC data, says nothing about patients" if scenario.synthetic else "real patients"
    heading(f"{scenario.title} ({word})")
    folder = home.settings.home / "demo" / part.folder
    folder.parent.mkdir(exist_ok=True)
    source = home.source(str(part.source.data(folder))).alias
    found = retrain(part.scenario, source)
    if found["state"] == "nothing new":
        return {}
    tell_training(home, scenario, found["train"])
    champion = get_alias(tracker_for(home, part.scenario), part.scenario, "champion")
    against = None
    if champion is not None:
        if part.threshold:
            against = beside_threshold(home, part.scenario, source, part.threshold(part.source))
        _predict(home, part, folder)
    heading(f"{scenario.title}: how it ended")
    for line in told_verdict(found["train"], against):
        print(line)
    if champion is None:
        print("there is no champion, so nothing is applied to new cases")
    return found["train"]


def _predict(home: Home, part: Part, folder: Path) -> None:
    """Apply the champion to new images, or to its own table again."""
    place = part.source.new_data(folder)
    again = place == part.source.data(folder)
    heading(
        "the champion on its own table; patients of the training are marked"
        if again
        else "the champion on new cases"
    )
    found = predict(part.scenario, home.source(str(place)).alias)
    print(f"{found['cases']} cases judged, {found['flagged']} flagged, {found['failed']} failed")
    out = Path(found["folder"])
    print(f"page      {out / 'index.html'}")
    for what, where in RESULTS:
        if made := sorted(out.glob(where)):
            print(f"{what:<9} {len(made)} in {made[0].parent}")


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
