"""Search a model's layers, then λ, then the clamp, and validate the best choices."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from editing.hyperparameters.config import Hyperparameters
from sims.search.bench import SEARCH, VALIDATION, Bench, Trial
from sims.search.candidates import (
    CLAMPS,
    PRIOR_WEIGHTS,
    Budget,
    refined,
    single_layers,
    windows,
)

NEAR_BEST = 1.0
"""Points of score within which trials count as equal."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All trials of a search, and the choice."""

    trials: tuple[Trial, ...]
    chosen: Trial


class Search:
    """Tries choices within a budget, each once, and reports every trial."""

    def __init__(
        self,
        bench: Bench,
        base: Hyperparameters,
        usable: Sequence[int],
        budget: Budget,
        on_trial: Callable[[int, Trial], None],
    ) -> None:
        """Vary layers, λ and clamp of `base`, and keep the rest of it.

        Args:
            bench: Where choices are tried.
            base: Gives all other hyperparameters.
            usable: Layers that may be edited, ascending.
            budget: How many trials each stage may take.
            on_trial: Called with the number of trials done and the latest one.
        """
        self._bench, self._base, self._usable = bench, base, list(usable)
        self._budget, self._on_trial = budget, on_trial
        self.trials: list[Trial] = []

    def run(self) -> Outcome:
        """Run all stages; the choice is made on the validation part."""
        budget = self._budget
        singles = single_layers(self._usable, budget.singles)
        self._bench.prepare(singles)
        start = self._vary(
            self._base,
            mom2_update_weight=PRIOR_WEIGHTS[0],
            clamp_norm_factor=CLAMPS[0],
        )
        self._stage(
            (self._vary(start, layers=(layer,)) for layer in singles), budget.singles
        )
        best = self._best().layers[-1]
        wider = windows(best, self._usable, budget.windows)
        self._bench.prepare([layer for window in wider for layer in window])
        self._stage(
            (self._vary(start, layers=window) for window in wider), budget.windows
        )
        self._stage(self._weights(), budget.weights)
        found = self._best()
        self._stage(
            (self._vary(found, clamp_norm_factor=clamp) for clamp in CLAMPS),
            budget.clamps,
        )
        finalists = rank(self.trials)[: budget.finalists]
        tried = [self._try(each.parameters, VALIDATION) for each in finalists]
        return Outcome(tuple(self.trials), choose(tried))

    def _weights(self) -> Iterator[Hyperparameters]:
        """Yield λ on the coarse grid, and then next to the best one of it."""
        found = self._best()
        for weight in PRIOR_WEIGHTS[1:]:
            yield self._vary(found, mom2_update_weight=weight)
        for weight in refined(self._best().mom2_update_weight):
            yield self._vary(found, mom2_update_weight=weight)

    def _stage(self, choices: Iterable[Hyperparameters], trials: int) -> None:
        """Try choices that were not tried yet, as many as there may be."""
        known = [trial.parameters for trial in self.trials]
        for choice in choices:
            if trials == 0:
                return
            if choice not in known:
                self._try(choice, SEARCH)
                trials -= 1

    def _try(self, parameters: Hyperparameters, part: str) -> Trial:
        trial = self._bench.try_out(parameters, part)
        self.trials.append(trial)
        self._on_trial(len(self.trials), trial)
        return trial

    def _best(self) -> Hyperparameters:
        return choose(self.trials).parameters

    @staticmethod
    def _vary(base: Hyperparameters, **changes: object) -> Hyperparameters:
        return Hyperparameters.model_validate({**base.model_dump(), **changes})


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """Order trials, the best first.

    Those within `NEAR_BEST` of the best score count as equal, and among them the one
    that changes the weights least is the best.
    """
    best = max(trial.score for trial in trials)

    def order(trial: Trial) -> tuple[bool, float]:
        equal = not trial.failure and trial.score > best - NEAR_BEST
        if equal:
            return False, trial.diagnosis.get("update_ratio", 0.0)
        return True, -trial.score

    return sorted(trials, key=order)


def choose(trials: Sequence[Trial]) -> Trial:
    """Return the best trial, see `rank`."""
    return rank(trials)[0]
