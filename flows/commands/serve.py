"""Commands that keep something running: pages, workers, deployments; and the doctor."""

import argparse
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from flows.commands.start import mlflow_page, open_engine, open_home
from flows.console import say
from flows.data import data_folder
from flows.server import answers, running_server, stop_server
from flows.settings import Settings, child_environment, console_level
from tasks.errors import RadloopError

POOLS = ("radloop", "gpu")
"""Work pools: flows that need no GPU, and those a scenario sends to one."""

MOST_SHOWN = 2000
"""Characters of Prefect's own words after a refusal; its panels are long."""

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}

ANSWER_SECONDS = 120
"""Time a server that somebody else runs may take to answer."""


def doctor(args: argparse.Namespace) -> int:
    """Look at this machine and print each finding with its remedy."""
    from flows.doctor import examine

    findings = examine(open_home(args).settings)
    for finding in findings:
        print(f"{_MARKS[finding.level]}  {finding.what:<20} {finding.value}")
        if finding.remedy:
            print(f"      {'':<20} {finding.remedy}")
    return 1 if any(finding.level == "fail" for finding in findings) else 0


def ui(args: argparse.Namespace) -> None:
    """Start (or stop) both pages and print their addresses."""
    if args.stop:
        settings = open_home(args).settings
        ended = [name for name in ("prefect", "mlflow") if stop_server(settings, name)]
        say(f"stopped {' and '.join(ended)}" if ended else "no server of this home was running")
        return
    settings = open_engine(args).settings
    prefect = running_server(settings, "prefect")
    print(f"Prefect  {prefect.url if prefect else settings.prefect_api_url}")
    print(f"MLflow   {mlflow_page(settings)}")


def worker(args: argparse.Namespace) -> None:
    """Serve a work pool until interrupted."""
    home = open_engine(args)
    _watch(home.settings)
    _make_pool(args.pool)
    say(f"serving work pool {args.pool}, {args.limit} flow runs at once; Ctrl-C ends it")
    command = ["worker", "start", "--pool", args.pool, "--limit", str(args.limit)]
    # The worker takes our place: a container's or unit's SIGTERM must reach it, not a parent that
    # knows nothing of runs. A shell's `&` leaves SIGINT ignored, and Prefect ends itself by SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.chdir(home.settings.home)
    os.execve(
        sys.executable,
        [sys.executable, "-m", "prefect", *command],
        child_environment(**console_level("INFO")),
    )


def deploy(args: argparse.Namespace) -> int:
    """Register deployments and schedules; runs them again without harm."""
    home = open_engine(args)
    given = yaml.safe_load((data_folder("deployments") / "prefect.yaml").read_text())
    names = args.scenario or shipped_scenarios(given)
    source = args.source
    if source and (os.sep in source or Path(source).exists()):
        # Prefect keeps parameters in clear: an alias, never a place.
        source = home.source(source).alias
    wanted = [row for name in names for row in deployments_of(given, home.scenario(name), source)]
    given["deployments"] = wanted + [
        row for row in given["deployments"] if "scenario" not in row["parameters"]
    ]
    path = home.settings.home / "prefect" / "prefect.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    known = {source.alias for source in home.sources()}
    for alias in sorted({row["parameters"].get("source") for row in wanted} - known - {None}):
        say(f"no source is called {alias} yet: `radloop source add {alias} PLACE` before it runs")
    _watch(home.settings)
    for pool in POOLS:
        _make_pool(pool)
    _apply(path)
    for row in given["deployments"]:
        say(f"  {row['name']}: {_when(row)}")
    say("run `radloop worker` where they shall run")
    return 0


def shipped_scenarios(given: dict[str, Any]) -> list[str]:
    """Return the scenarios that the deployments file names, in its order."""
    names = [row["parameters"].get("scenario") for row in given["deployments"]]
    return list(dict.fromkeys(name for name in names if name))


def deployments_of(
    given: dict[str, Any], scenario: Any, source: str | None
) -> list[dict[str, Any]]:
    """Return a scenario's deployments: those of the file, else copies of its first scenario's.

    Parameters
    ----------
    given : dict
        Content of ``deployments/prefect.yaml``.
    scenario : Scenario
        Its ``schedule`` replaces the file's cron lines for flows it names.
    source : str, optional
        Alias to read; by default the alias is called like the scenario.
    """
    shipped = shipped_scenarios(given)
    pattern = scenario.name if scenario.name in shipped else shipped[0]
    chosen = []
    for row in given["deployments"]:
        if row["parameters"].get("scenario") != pattern:
            continue
        flow = row["name"].split("-")[0]
        if flow == "preprocess" and scenario.cohort.kind == "row":
            continue
        copy = deepcopy(row) | {"name": f"{flow}-{scenario.name}"}
        copy["parameters"]["scenario"] = scenario.name
        if "source" in copy["parameters"]:
            copy["parameters"]["source"] = source or scenario.name
        for trigger in copy.get("triggers", ()):
            # Without this, another scenario's event would start it.
            trigger["match"]["radloop.scenario"] = scenario.name
        cron = getattr(scenario.schedule, flow, None)
        if cron and copy.get("schedules"):
            copy["schedules"][0]["cron"] = cron
        chosen.append(copy)
    return chosen


def _watch(settings: Settings) -> None:
    """Let the server, also one that is not ours, crash runs whose process is gone."""
    if not settings.prefect_api_url:
        return
    health = settings.prefect_api_url.rstrip("/") + "/health"
    deadline = time.monotonic() + ANSWER_SECONDS
    while not answers(health):
        if time.monotonic() > deadline:
            msg = (
                f"the Prefect server at PREFECT_API_URL does not answer after {ANSWER_SECONDS} s; "
                "start it, or unset PREFECT_API_URL to use one of our own"
            )
            raise RadloopError(msg)
        time.sleep(1)
    from flows.policy import crash_zombies

    crash_zombies()


def _make_pool(pool: str) -> None:
    # Fails when it exists, which is well; a server that is away shows in the next command.
    _prefect(["--no-prompt", "work-pool", "create", pool, "--type", "process"])


def _apply(path: Path) -> None:
    done = _prefect(
        ["--no-prompt", "deploy", "--all", "--prefect-file", str(path)], cwd=path.parent
    )
    if done.returncode:
        print(done.stdout[-MOST_SHOWN:], done.stderr[-MOST_SHOWN:], file=sys.stderr)
        msg = f"Prefect refused the deployments in {path} (exit code {done.returncode})"
        raise RadloopError(msg)


def _prefect(arguments: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=cwd,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def _when(row: dict[str, Any]) -> str:
    if row.get("schedules"):
        return f"at {row['schedules'][0]['cron']}"
    return "on its event" if row.get("triggers") else "when called"
