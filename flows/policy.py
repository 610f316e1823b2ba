"""House rules of orchestration: the one ``task``, tags, and what becomes of a dead run."""

from datetime import timedelta
from functools import partial

from prefect import task as prefect_task
from prefect.cache_policies import NO_CACHE

task = partial(prefect_task, cache_policy=NO_CACHE, persist_result=False, log_prints=False)
"""House task: never cached and never persisted.

Dask recomputes finished tasks of a lost worker, so every task is idempotent by itself and the
store's and the catalog's own records say what is done; a cache beside them could only disagree.
Persisted results would also be files that nobody owns.
"""

TRAIN_TAG = "radloop-train"
"""Lets a Prefect server hold back trainings of several runs. Parts bear no tag: Prefect asks for a
slot before each task that has one, limit or none, and a worker waited 2 s before a part of 15 s."""

ZOMBIE_SECONDS = 90
"""Three heartbeats missed, of 30 s each: a flow run whose process is gone is set to CRASHED."""

_AUTOMATION = "radloop: a run without heartbeat is crashed"


def crash_zombies(seconds: int = ZOMBIE_SECONDS) -> None:
    """Make the server set runs without a heartbeat to CRASHED, unless it already does.

    Parameters
    ----------
    seconds : int
        Silence after which a run counts as dead; more than one heartbeat interval.
    """
    from prefect.automations import Automation
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.states import StateType

    try:
        Automation.read(name=_AUTOMATION)
    except ValueError:
        ended = {
            f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")
        }
        Automation(
            name=_AUTOMATION,
            trigger=EventTrigger(
                after={"prefect.flow-run.heartbeat"},
                expect={"prefect.flow-run.heartbeat", *ended},
                match={"prefect.resource.id": ["prefect.flow-run.*"]},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=seconds),
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat")],
        ).create()
