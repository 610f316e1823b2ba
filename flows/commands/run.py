"""Commands that run flows: they make sure of an engine, call one flow and say what came out."""

import argparse
import shutil
from typing import Any

from flows.commands.start import mlflow_page, open_engine, open_home, use_engine
from flows.console import heading, say
from flows.home import Home
from flows.worker_start import start_method


def ingest(args: argparse.Namespace) -> int:
    """Read sources into the catalog."""
    home = open_engine(args)
    from flows.ingest import ingest as flow
    from tasks.archive.report import IntakeReport, in_all

    scenario = home.scenario(args.labels_of).name if args.labels_of else None
    reports = []
    for text in args.sources:
        source = home.source(text)
        heading(f"source {source.alias}")
        reports.append(IntakeReport(**flow(source.alias, scenario, args.retry)["files"]))
    if len(reports) > 1:
        heading(f"in all {len(reports)} sources")
        say(f"  {in_all(reports).balance()}")
    say("`radloop status` shows what is there, `radloop quarantine` what could not be used and why")
    return 0


def retry_quarantine(args: argparse.Namespace) -> int:
    """Read quarantined files of every source again."""
    home = open_engine(args)
    from flows.ingest import ingest as flow
    from tasks.archive.commits import retry_cases

    gone = 0
    for source in home.sources():
        heading(f"source {source.alias}")
        if problem := _out_of_reach(source):
            # One place that is not mounted must not keep the others waiting.
            gone += 1
            say(f"  not read: {problem}")
        else:
            flow(source.alias, None, True)
    again = retry_cases(home.catalog)
    if again:
        say(f"{again} cases in quarantine are tried again by the next `radloop preprocess`")
    return 1 if gone else 0


def _out_of_reach(source: Any) -> str:
    """Say why a source cannot be read, or nothing."""
    from tasks.archive.sources import is_there

    try:
        return "" if is_there(source) else "its place is not there: mount it, or register it anew"
    except OSError as error:
        return str(error)


def preprocess(args: argparse.Namespace) -> int:
    """Bring a scenario's cases into the store; without new ones, no server is started."""
    home = open_home(args)
    scenario = home.scenario(args.scenario)
    source = _alias(home, args.source)
    found = None if args.refit else _idle(home, scenario, source)
    if found is None:
        use_engine(home)
        if not home.settings.dask_address:
            # Theirs and our imports take seconds each: they run side by side.
            start_method()
        from flows.preprocess import preprocess as flow

        found = flow(scenario.name, source, args.refit)
    why = ": `radloop quarantine` says why" if found["quarantined"] else ""
    print(
        f"{found['cases']} cases in {found['parts']} parts, {found['quarantined']} quarantined{why}"
    )
    return 0


def _idle(home: Home, scenario: Any, source: str | None) -> dict[str, Any] | None:
    from flows.cohorts import settle
    from flows.pending import all_made, nothing_new

    made = all_made(home, settle(home, scenario, source))
    return None if made is None else nothing_new(home, scenario.name, made)


def train(args: argparse.Namespace) -> int:
    """Train, gate and register."""
    home = open_engine(args)
    from flows.train import train as flow

    scenario = home.scenario(args.scenario)
    found = flow(scenario.name, _alias(home, args.source))
    tell_training(home, scenario, found)
    return 0


def retrain(args: argparse.Namespace) -> int:
    """Run the whole loop."""
    home = open_engine(args)
    from flows.retrain import retrain as flow

    scenario = home.scenario(args.scenario)
    found = flow(scenario.name, _alias(home, args.source), args.force)
    if found["state"] == "nothing new":
        print(found["why"])
        return 0
    tell_training(home, scenario, found["train"])
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Score the champion, or another tool's predictions, on the test edition."""
    home = open_home(args)
    from flows.cohorts import settle
    from flows.foreign import keep_foreign
    from flows.foreign_names import write_frame
    from flows.jobs import write_job

    scenario = home.scenario(args.scenario)
    source = _alias(home, args.source)
    foreign = None
    if args.list or args.predictions:
        ready = settle(home, scenario, source)
        job = write_job(home, ready)
    if args.list:
        write_frame(home, ready, job.on("test"), args.list)
        print(f"{len(job.on('test'))} cases of test edition {ready.edition} in {args.list}")
        return 0
    if args.predictions:
        foreign = keep_foreign(home, ready, job, args.predictions)
    use_engine(home)
    from flows.evaluate import evaluate as flow

    found = flow(scenario.name, source, foreign)
    print(f"{scenario.name}, test edition {found['edition']}, {found['what']}")
    print_figures(found["test"])
    if found["comparison"]:
        print(found["comparison"])
    print(f"this edition has been used {found['uses']} times")
    print(f"report    {found['report']}")
    return 0


def predict(args: argparse.Namespace) -> int:
    """Apply the champion to new images."""
    home = open_engine(args)
    from flows.predict import predict as flow
    from tasks.serve.earlier import take_away

    scenario = home.scenario(args.scenario)
    source = home.source(args.source)
    found = flow(scenario.name, source.alias, not args.no_sources)
    args.out.mkdir(parents=True, exist_ok=True)
    for line in take_away(args.out).lines(args.out):
        print(line)
    shutil.copytree(found["folder"], args.out, dirs_exist_ok=True)
    shutil.rmtree(found["folder"])
    print(
        f"{found['cases']} cases judged by version {found['version']}, {found['flagged']} flagged, "
        f"{found['failed']} failed"
    )
    if found["outside"]:
        print(f"{found['outside']} images are not what the scenario is about, and were not judged")
    shown = "index.html" if scenario.outputs.page else "predictions.csv"
    print(f"see {args.out.resolve() / shown}")
    return 0


def demo(args: argparse.Namespace) -> int:
    """Run the whole loop on data the package brings."""
    home = open_engine(args)
    from flows.demo import demo as run

    return run(home, args.scenario, args.difficulty)


def tell_training(home: Home, scenario: Any, found: dict[str, Any]) -> None:
    """Print candidates with intervals, verdict, champion and where to look."""
    from flows.evidence import tracker_for
    from tasks.serve.comparing import compare_url, model_url, run_url
    from tasks.serve.tracking import children_of

    if "flow_run" in found:
        print(f"trained by flow run {found['flow_run']} on the work pool gpu")
        return
    primary = scenario.evaluate.primary
    heading(f"{scenario.title}: candidates by cross-validation, {primary}")
    ranked = sorted(found["candidates"].items(), key=lambda item: -item[1][primary][0])
    for name, figures in ranked:
        mark = "*" if name == found["chosen"] else " "
        print(f"{mark} {name:<16} {interval(figures[primary])}")
    heading(f"{found['chosen']} on the test edition")
    print_figures(found["test"])
    print(f"gate: {found['verdict']}. {found['reason']}")
    if found.get("baseline"):
        print(f"baseline: {found['baseline']}")
    tracker = tracker_for(home, scenario.name)
    base = mlflow_page(home.settings)
    print(f"run       {run_url(base, tracker, found['run_id'])}")
    children = children_of(tracker, found["run_id"], "candidate")
    print(f"compare   {compare_url(base, tracker, children)}")
    print(f"model     {model_url(base, scenario.name, found['version'])}")
    print(f"report    {found['report']}")


def print_figures(figures: dict[str, tuple[float, float, float]]) -> None:
    """Print figures with their intervals."""
    for name, figure in figures.items():
        print(f"  {name:<20} {interval(figure)}")


def interval(figure: tuple[float, float, float]) -> str:
    """Return a figure with its 95 % interval, if it has one."""
    value, low, high = figure
    if low != low:
        return f"{value:.3f}"
    return f"{value:.3f}  [{low:.3f}, {high:.3f}]"


def _alias(home: Home, text: str | None) -> str | None:
    return home.source(text).alias if text else None
