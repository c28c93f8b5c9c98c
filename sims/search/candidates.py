"""What a search tries: layers from the model's depth, and grids of λ and clamp."""

from collections.abc import Sequence
from dataclasses import dataclass

from editing.base.errors import InputError

PRIOR_WEIGHTS = (1e3, 1e4, 1e2, 1e5, 1e1)
"""λ, a decade apart, in the order in which they are tried."""

HALF_DECADE = 10**0.5
CLAMPS = (0.75, 1.0, 0.5, 1.5)
WINDOW_LENGTHS = (3, 5, 2)
MOST_SINGLE_LAYERS = 8
FINALISTS = 3
"""The number of choices that are tried again on the validation part."""

SMALLEST_BUDGET = 8
SINGLE_SHARE, WINDOW_SHARE, WEIGHT_SHARE = 0.35, 0.2, 0.25
"""Of the budget; the clamp has the rest."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many trials each stage may take."""

    singles: int
    windows: int
    weights: int
    clamps: int
    finalists: int

    @property
    def total(self) -> int:
        """All of them."""
        stages = self.singles + self.windows + self.weights + self.clamps
        return stages + self.finalists


def split_budget(trials: int) -> Budget:
    """Share a number of trials out among the stages.

    Raises:
        InputError: If it is too small for one trial of each.
    """
    if trials < SMALLEST_BUDGET:
        raise InputError(
            f"--max-trials {trials}: wanted at least {SMALLEST_BUDGET}, for each stage "
            "takes one"
        )
    rest = trials - FINALISTS
    shares = (SINGLE_SHARE, WINDOW_SHARE, WEIGHT_SHARE)
    singles, windows, weights = (max(1, int(share * rest)) for share in shares)
    clamps = rest - singles - windows - weights
    return Budget(singles, windows, weights, clamps, FINALISTS)


def single_layers(usable: Sequence[int], number: int) -> list[int]:
    """Spread a number of layers evenly over those that are usable, ends included."""
    number = min(number, len(usable), MOST_SINGLE_LAYERS)
    if number == 1:
        return [usable[len(usable) // 2]]
    last = len(usable) - 1
    return [usable[round(place * last / (number - 1))] for place in range(number)]


def windows(best: int, usable: Sequence[int], number: int) -> list[tuple[int, ...]]:
    """List windows of neighbouring layers that end with a layer or soon after it.

    Those that end with it share its targets, and so cost less.
    """
    place = usable.index(best)
    ends = [place, min(place + 1, len(usable) - 1)]
    found = [
        tuple(usable[end - length + 1 : end + 1])
        for end in ends
        for length in WINDOW_LENGTHS
        if end - length + 1 >= 0
    ]
    return list(dict.fromkeys(found))[:number]


def refined(weight: float) -> list[float]:
    """Give λ half a decade above and below."""
    return [weight * HALF_DECADE, weight / HALF_DECADE]


def read_layers(text: str | None, block_count: int) -> list[int]:
    """Read the layers that may be edited, as ``3-8`` or ``3,5,7``; None is all.

    The last block is left out of all: nothing after it could read what it writes.

    Raises:
        InputError: If that is no such text, or names a layer that the model lacks.
    """
    usable = range(max(1, block_count - 1))
    if text is None:
        return list(usable)
    wanted: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"--layers {text}: wanted layers such as `3-8` or `3,5,7`")
        wanted.update(range(int(first), int(last or first) + 1))
    if not wanted or not wanted <= set(usable):
        raise InputError(
            f"--layers {text}: the model has {block_count} blocks, and layers 0 to "
            f"{usable[-1]} can be edited"
        )
    return sorted(wanted)
