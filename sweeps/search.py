"""Choose the trials of a sweep: every combination of the values, or a search by TPE."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab import command
from sweeps.trial import FAILED, FINISHED, Trial

MakeTrial = Callable[[dict[str, Any]], Trial]
SIGNIFICANT_DIGITS = 3  # of a number that TPE chooses; more digits make no difference


class SearchError(ValueError):
    """The search cannot run with the given values; the message says what to do."""


class Grid:
    """Every combination of the values; the last option changes fastest.

    Args:
        values: the values of each option.
        make_trial: makes a Trial from one value of each option.

    Attributes:
        trials: the trials known so far, by name.
        names: the options that vary.
    """

    def __init__(self, values: dict[str, list], make_trial: MakeTrial) -> None:
        combinations = itertools.product(*values.values())
        trials = [make_trial(dict(zip(values, combination))) for combination in combinations]
        self.trials = {trial.name: trial for trial in trials}  # duplicates count once
        self.names = [name for name, given in values.items() if len(set(given)) > 1]

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials.values())

    def tell(self, trial: Trial, record: dict[str, Any]) -> None:
        """Ignore the result of a trial: a grid does not depend on it."""


class Tpe:
    """Trials chosen by Optuna's tree-structured Parzen estimator from the results so far.

    Numbers are searched between the smallest and the largest given value, words and paths among
    the given values. (Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011.)
    Attributes are those of Grid. Raises SearchError.

    Args:
        values: the values of each option; an option with one value is fixed.
        make_trial: makes a Trial from one value of each option.
        count: the number of trials, those of earlier runs of the sweep included.
        known: trials of earlier runs and their records; those outside the values are ignored.
    """

    GIVE_UP_AFTER = 100  # repeated trials in a row: all combinations have probably been tried

    def __init__(
        self,
        values: dict[str, list],
        make_trial: MakeTrial,
        count: int,
        known: list[tuple[Trial, dict[str, Any]]],
    ) -> None:
        optuna = _optuna()
        self.optuna, self.make_trial = optuna, make_trial
        self.fixed = {name: given[0] for name, given in values.items() if len(set(given)) == 1}
        self.space = {
            name: _distribution(optuna, given)
            for name, given in values.items()
            if name not in self.fixed
        }
        if not self.space:
            raise SearchError(
                "--search tpe needs an option with two values or more to search between, "
                "such as --var 0.005 0.5"
            )
        known = [
            (trial, record)
            for trial, record in known
            if all(_within(trial.options[name], given) for name, given in values.items())
        ]
        self.count = max(count, len(known))
        self.names = list(self.space)
        self.trials = {trial.name: trial for trial, _ in known}
        # The seed depends on the known trials: with that of the earlier run, TPE would choose the
        # same trials again.
        sampler = optuna.samplers.TPESampler(seed=42 + len(known), constant_liar=True)
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.open: dict[str, Any] = {}  # Optuna's trials, by the name of the lab's trial
        for trial, record in known:
            self.study.enqueue_trial(self._params(trial))
            self.open[trial.name] = self.study.ask(self.space)
            self.tell(trial, record)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Trial]:
        yield from list(self.trials.values())  # the caller skips finished ones
        repeated = 0
        while len(self.trials) < self.count and repeated < self.GIVE_UP_AFTER:
            asked = self.study.ask(self.space)
            trial = self.make_trial({**self.fixed, **_rounded(asked.params, self.space)})
            if trial.name in self.trials:
                self.study.tell(asked, state=self.optuna.trial.TrialState.FAIL)
                repeated += 1
                continue
            repeated = 0
            self.open[trial.name] = asked
            self.trials[trial.name] = trial
            yield trial

    def tell(self, trial: Trial, record: dict[str, Any]) -> None:
        """Tell Optuna the result of a trial, once it is finished or failed."""
        if trial.name not in self.open:
            return
        if record["status"] == FINISHED:
            self.study.tell(self.open.pop(trial.name), record["raw"])
        elif record["status"] == FAILED:
            state = self.optuna.trial.TrialState.FAIL
            self.study.tell(self.open.pop(trial.name), state=state)

    def _params(self, trial: Trial) -> dict[str, Any]:
        plain = trial.plain_options()
        return {name: plain[name] for name in self.space}


def _within(value: Any, given: list) -> bool:
    """Whether a value is one of the given ones or, for a number, between them."""
    if isinstance(value, str | Path):
        return value in given
    return min(given) <= value <= max(given)


def _distribution(optuna: Any, given: list) -> Any:
    """Return the space to search: a range for numbers, a choice for everything else."""
    low, high = min(given), max(given)
    if isinstance(low, str | Path):
        words = {command.plain(value) for value in given}
        return optuna.distributions.CategoricalDistribution(sorted(words))
    # Variances, learning rates and wide ranges of batch sizes are searched on a logarithmic scale.
    if isinstance(low, int):
        return optuna.distributions.IntDistribution(low, high, log=low > 0 and high >= 10 * low)
    return optuna.distributions.FloatDistribution(low, high, log=low > 0)


def _rounded(params: dict[str, Any], space: dict[str, Any]) -> dict[str, Any]:
    rounded = {}
    for name, value in params.items():
        if isinstance(value, float):
            value = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
            value = min(max(value, space[name].low), space[name].high)
        rounded[name] = value
    return rounded


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise SearchError(
            "Optuna is not installed; --search tpe needs it: "
            f"{sys.executable} -m pip install -r requirements/sweep.txt"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
