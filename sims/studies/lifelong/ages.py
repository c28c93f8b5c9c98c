"""What becomes of each edit as others follow: whether it is lost, and at which age."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Ages:
    """The lives of a run's edits.

    Attributes:
        made: The round that each edit was made in, by its number.
        right: The edits that the model says after each round, from the first on.
        edits: How many edits there are after each round.
    """

    made: Mapping[int, int]
    right: Sequence[frozenset[int]]
    edits: Sequence[int]

    def kept_at(self, age: int) -> float | None:
        """Return the per cent of written edits that are right so many rounds later.

        An edit is written if it is right after its own round. None if no written edit
        is as old.
        """
        old = [edit for edit in self._written() if self.made[edit] + age <= self._last]
        if not old:
            return None
        kept = [edit for edit in old if edit in self._after(self.made[edit] + age)]
        return 100 * len(kept) / len(old)

    def forgotten(self, number: int) -> float | None:
        """Return the per cent of edits written by a round that are wrong after it."""
        old = [edit for edit in self._written() if self.made[edit] <= number]
        if not old:
            return None
        return 100 * len(self._lost(number)) / len(old)

    def age_when_lost(self, number: int) -> float | None:
        """Return after how many later edits those wrong after a round were first wrong.

        The mean over them; None if there is none.
        """
        ages = [self._first_loss(edit) for edit in self._lost(number)]
        return sum(ages) / len(ages) if ages else None

    def _written(self) -> list[int]:
        return [edit for edit, made in self.made.items() if edit in self._after(made)]

    def _lost(self, number: int) -> list[int]:
        return [
            edit
            for edit in self._written()
            if self.made[edit] <= number and edit not in self._after(number)
        ]

    def _first_loss(self, edit: int) -> int:
        made = self.made[edit]
        lost = next(
            n for n in range(made, self._last + 1) if edit not in self._after(n)
        )
        return self.edits[lost - 1] - self.edits[made - 1]

    def _after(self, number: int) -> frozenset[int]:
        return self.right[number - 1]

    @property
    def _last(self) -> int:
        return len(self.right)


def read_ages(
    sizes: Sequence[Sequence[int]], cases: Sequence[Sequence[Mapping[str, object]]]
) -> Ages:
    """Read a run's cases: those of each round, of all edits so far.

    Args:
        sizes: How many requests each party has in each round; edits are numbered in
            this order.
        cases: As `TrialResult.cases` gives them.
    """
    edits = list(accumulate(sum(parties) for parties in sizes))
    made = {
        edit: number
        for number, (start, stop) in enumerate(
            zip([0, *edits], edits, strict=False), start=1
        )
        for edit in range(start, stop)
    }
    right = [
        frozenset(_number(case) for case in each if _is_right(case)) for each in cases
    ]
    return Ages(made, right, edits)


def _number(case: Mapping[str, object]) -> int:
    return int(str(case["case_id"]))


def _is_right(case: Mapping[str, object]) -> bool:
    """Whether the new object is the likeliest at its own prompt, token for token."""
    post = case["post"]
    assert isinstance(post, Mapping)
    return bool(post["rewrite_prompts_correct"][0])
