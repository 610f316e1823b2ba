"""A search over declared spaces: what to try next, when to stop a trial, kept on disk.

Optuna proposes (tree-structured Parzen estimator; Bergstra et al. 2011) and keeps the trials in a
journal of JSON lines, so a search that was killed goes on.  It asks in rounds of a fixed number and
seeds each proposal by the trial's number: the same trials come whatever number of workers runs them
and however often the search was interrupted.  Knows neither networks nor engines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.learn.space import Space, Span

ROUND = 4
"""Trials asked for at once; a larger round learns less from the ones before."""

WARM_UP = 0.25
"""Share of a trial's epochs in which it is never stopped."""


@dataclass(frozen=True)
class Ask:
    """One setting to be tried."""

    number: int
    params: Mapping[str, Any]
    bar: tuple[float, ...] = ()
    """After each epoch, the median of the best value so far of the trials of earlier rounds."""

    def falls_short(self, values: Sequence[float], epochs: int) -> bool:
        """Whether a trial with these values, one an epoch, should stop.

        The median stopping rule (Golovin et al. 2017, "Google Vizier"), with a warm-up.
        It is by the best value so far, so that one bad epoch ends no trial.

        Parameters
        ----------
        values : sequence of float
            Higher is better.
        epochs : int
            That the trial would have.
        """
        done = len(values)
        return WARM_UP * epochs < done <= len(self.bar) and max(values) < self.bar[done - 1]


@dataclass(frozen=True)
class Told:
    """What a trial gave."""

    number: int
    params: Mapping[str, Any]
    values: tuple[float, ...]
    """One an epoch, or one alone; higher is better."""
    stopped: bool = False
    """Whether it fell short before its end."""

    @property
    def score(self) -> float:
        """The last value: that of the network which a training with these settings keeps."""
        return self.values[-1]


class Search:
    """The trials of one search.

    Parameters
    ----------
    space : mapping
        Name to a list of values or a `Span`.
    trials : int
        How many there will be.
    seed : int
    journal : Path, optional
        File the trials are kept in; without one they are in memory.
    """

    def __init__(self, space: Space, trials: int, seed: int, journal: Path | None = None) -> None:
        import optuna
        from optuna.storages import InMemoryStorage, JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = {name: _distribution(values) for name, values in space.items()}
        self._trials, self._seed = trials, seed
        storage: Any = InMemoryStorage()
        if journal is not None:
            journal.parent.mkdir(parents=True, exist_ok=True)
            storage = JournalStorage(JournalFileBackend(str(journal)))
        self._study = optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True
        )

    def ask(self) -> list[Ask]:
        """Return the trials to run now: a round, or what is left of one; none at the end."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        asked = len(self._study.trials)
        if not waiting or asked % ROUND:
            upto = min(self._trials, (asked // ROUND + 1) * ROUND)
            for number in range(asked, upto):
                seed = np.random.SeedSequence([self._seed, number]).generate_state(1)[0]
                self._study.sampler = TPESampler(seed=int(seed), n_startup_trials=2 * ROUND)
                self._study.ask(self._space)
            waiting = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not waiting:
            return []
        bar = _bar([one for one in self.told() if one.number < waiting[0].number // ROUND * ROUND])
        return [Ask(trial.number, dict(trial.params), bar) for trial in waiting]

    def tell(self, told: Told) -> None:
        """Keep what a trial gave."""
        from optuna.trial import Trial, TrialState

        frozen = self._study.trials[told.number]
        trial = Trial(self._study, frozen._trial_id)
        for epoch, value in enumerate(told.values):
            if epoch not in frozen.intermediate_values:  # as after a kill between the two
                trial.report(value, epoch)
        trial.set_user_attr("stopped", told.stopped)
        if told.stopped:
            self._study.tell(told.number, state=TrialState.PRUNED)
        else:
            self._study.tell(told.number, told.score)

    def told(self) -> list[Told]:
        """Return what was told, by number."""
        return [
            Told(
                trial.number,
                dict(trial.params),
                tuple(trial.intermediate_values[e] for e in sorted(trial.intermediate_values)),
                bool(trial.user_attrs.get("stopped")),
            )
            for trial in self._study.trials
            if trial.state.is_finished()
        ]

    @property
    def best(self) -> Told:
        """The trial with the best score that went to its end; a tie goes to the earlier."""
        return max((t for t in self.told() if not t.stopped), key=lambda t: (t.score, -t.number))


def optimise(search: Search, run: Callable[[Sequence[Ask]], Sequence[Told]]) -> Told:
    """Run a search to its end and return the best trial; ``run`` may spread a round's trials."""
    while asked := search.ask():
        for told in run(asked):
            search.tell(told)
    return search.best


def _bar(told: Sequence[Told]) -> tuple[float, ...]:
    """Return the median of the best value so far after each epoch that half the trials reached."""
    if len(told) < ROUND:
        return ()
    reached = sorted((len(one.values) for one in told), reverse=True)[len(told) // 2]
    best = [np.maximum.accumulate(one.values) for one in told]
    return tuple(
        float(np.median([line[epoch] for line in best if len(line) > epoch]))
        for epoch in range(reached)
    )


def _distribution(values: Sequence[Any] | Span) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if not isinstance(values, Span):
        return CategoricalDistribution(list(values))
    if values.whole:
        return IntDistribution(
            int(values.low), int(values.high), log=values.log, step=int(values.step or 1)
        )
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)
