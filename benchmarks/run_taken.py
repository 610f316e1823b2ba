"""What a run of `radloop preprocess` took, asked from outside: by process, by part, by moment."""

import json
import threading
import urllib.request
from datetime import datetime
from pathlib import Path

import psutil


class Sampler(threading.Thread):
    """Adds up the core seconds of a home's processes by what they are, twice a second."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self.home, self.done = home, threading.Event()
        self.seen: dict[tuple[int, float], tuple[str, float, float]] = {}

    def run(self) -> None:
        """Look until told to stop."""
        while not self.done.wait(0.5):
            self.look()

    def look(self) -> None:
        """Take the processes' core seconds and memory as they are now."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("RADLOOP_HOME") != str(self.home):
                    continue
                used = process.cpu_times()
                key = process.pid, process.create_time()
                role = _role(" ".join(process.cmdline()))
                peak = max(process.memory_info().rss, self.seen.get(key, ("", 0, 0))[2])
                self.seen[key] = role, used.user + used.system, peak
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue

    def core_seconds_now(self) -> dict[str, float]:
        """Look once and return core seconds by role."""
        self.look()
        return self.core_seconds()

    def core_seconds(self) -> dict[str, float]:
        """Return core seconds by role."""
        sums: dict[str, float] = {}
        for role, seconds, _ in self.seen.values():
            sums[role] = sums.get(role, 0.0) + seconds
        return sums


def _role(command: str) -> str:
    # Prefect's program, started under a name of ours: to be asked before the rest of ours.
    if "flows.prefect_server" in command:
        return "Prefect server"
    if "-m flows" in command:
        return "coordinator and scheduler"
    if "mlflow" in command:
        return "MLflow server"
    if "decoding_child" in command:
        return "decoders"
    if "spawn_main" in command or "forkserver" in command:
        return "workers"
    return "other"


def prefect_rows(home: Path, what: str, body: dict) -> list[dict]:
    """Ask the home's Prefect server."""
    record = json.loads((home / "prefect" / "server.json").read_text())
    request = urllib.request.Request(
        f"http://127.0.0.1:{record['port']}/api/{what}/filter",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def parts_table(home: Path) -> list[dict]:
    """Return the rows of the last run's artifact."""
    (artifact,) = prefect_rows(
        home, "artifacts/latest", {"artifacts": {"key": {"any_": ["parts"]}}}
    )
    return json.loads(artifact["data"])


def moments(home: Path, begun: float, ended: float) -> dict[str, float]:
    """Return the seconds of a run before its flow, its parts and after them.

    Parameters
    ----------
    begun, ended : float
        Of the command, seconds since the epoch.
    """
    flows = prefect_rows(home, "flow_runs", {"sort": "START_TIME_ASC"})
    tasks = prefect_rows(home, "task_runs", {"sort": "EXPECTED_START_TIME_ASC", "limit": 200})
    parts = [task for task in tasks if task["name"].startswith("image part")]
    times = [(_epoch(task["start_time"]), _epoch(task["end_time"])) for task in parts]
    flow = max(_epoch(run["start_time"]) for run in flows if not run["parent_task_run_id"])
    first, last = min(start for start, _ in times), max(end for _, end in times)
    # The end of the last part but one: from there on one core has nothing to do.
    alone = last - sorted(end for _, end in times)[-2] if len(times) > 1 else last - first
    return {
        "command to flow": flow - begun,
        "flow to first part": first - flow,
        "parts": last - first,
        "of them the last alone": alone,
        "last part to end": ended - last,
    }


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
