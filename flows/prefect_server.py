"""Prefect's own server program, whose queue of services is looked at once in two seconds.

    python -m flows.prefect_server server start --host 127.0.0.1 --port 4210

Prefect's server runs what it does on a timer (late runs, schedules, clean-up) through Docket, whose
worker asks its queue eight times a second by default. Nothing of ours waits for that queue: what a
run tells the server goes past it, and the services it holds are due every 15 to 60 s.
"""

import runpy
from datetime import timedelta
from typing import Any

import docket

QUEUE_EVERY = timedelta(seconds=2)
"""Between two looks at a queue that nobody waits for."""


class RestingWorker(docket.Worker):
    """Docket's worker, which looks at its queue as seldom as :data:`QUEUE_EVERY` says."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # Both are parameters of Docket's, which Prefect leaves as they are.
        seldom = {"minimum_check_interval": QUEUE_EVERY, "scheduling_resolution": QUEUE_EVERY}
        super().__init__(*args, **{**seldom, **options})


def rest() -> None:
    """Let Prefect, imported after this, take our worker for Docket's: it does so by this name."""
    docket.Worker = RestingWorker  # type: ignore[misc]


def main() -> None:
    """Run `prefect` with the words of this command."""
    rest()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
