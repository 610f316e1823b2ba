"""Local workers are forked with their imports, from ours, under the settings of this run."""

import json
import sys
from pathlib import Path

from flows.worker_start import ALLOCATOR, IMPORTED, ONE_THREAD
from tests.flows.servers import environment, run

STARTED_TWICE = """
import json, os, signal, sys, time
from distributed import Client
from flows.runners import workers
from flows.settings import load_settings, prepare_environment
from flows.worker_start import start_method

def seen():
    import multiprocessing.forkserver as forkserver, psutil, flows
    import_came_first = "flows.preprocess" in sys.modules
    return {
        "pid": os.getpid(), "home": os.environ["RADLOOP_HOME"], "flows": flows.__file__,
        "forked": forkserver.get_inherited_fds() is not None, "imported": import_came_first,
        "environment": dict(psutil.Process().environ()), "now": dict(os.environ),
    }

def look(home):
    os.environ["RADLOOP_HOME"] = home
    settings = load_settings()
    prepare_environment(settings)
    found = [start_method()]
    with workers(settings) as address, Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=100)
        found += client.run(seen).values()
        before = {one["pid"] for one in found[1:]}
        os.kill(min(before), signal.SIGKILL)
        deadline, back = time.monotonic() + 100, []
        while not back and time.monotonic() < deadline:
            time.sleep(0.2)
            alive = client.run(seen, on_error="ignore").values()
            back = [one for one in alive if isinstance(one, dict) and one["pid"] not in before]
    return found + back

if __name__ == "__main__":
    print(json.dumps([look(home) for home in json.loads(sys.argv[1])]))
"""


def test_what_is_imported_first_starts_no_thread(tmp_path: Path) -> None:
    code = f"import os, {', '.join(IMPORTED)}; print(len(os.listdir('/proc/self/task')))"
    env = environment(tmp_path) | ONE_THREAD
    assert run([sys.executable, "-c", code], env).split()[-1] == "1"


def test_workers_are_forked_from_our_imports_or_spawned_under_other_settings(
    tmp_path: Path,
) -> None:
    # Somebody else's packages of our names, in the folder where the command is given.
    for name in ("flows", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "start_twice.py"
    script.write_text(STARTED_TWICE)
    homes = [str(tmp_path / name) for name in ("one", "other")]
    command = [sys.executable, str(script), json.dumps(homes)]
    said = run(command, environment(tmp_path / "one"), cwd=tmp_path)
    (first, *ours), (second, *others) = json.loads(said.splitlines()[-1])
    # Two, and the one that came back when the test had killed one of them.
    assert len(ours) == len(others) == 3
    assert (first, second) == ("forkserver", "spawn")
    for worker in ours:
        assert worker["forked"]
        assert worker["imported"]
        assert worker["home"] == homes[0]
        assert Path(worker["flows"]) == Path(__file__).parents[2] / "flows" / "__init__.py"
        # What the C library reads when a program starts, and what it may have been told since.
        assert (ONE_THREAD | ALLOCATOR).items() <= worker["environment"].items()
        assert ONE_THREAD.items() <= worker["now"].items()
    for worker in others:
        assert not worker["forked"]
        assert worker["home"] == homes[1]


def test_without_room_for_the_name_of_a_socket_workers_are_spawned(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    code = "from flows.worker_start import start_method; print(start_method(), start_method())"
    said = run([sys.executable, "-c", code], environment(tmp_path, TMPDIR=str(folder)))
    assert said.split() == ["spawn", "spawn"]
