"""The settings of requests and parties: who edits what, and when."""

from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from editing.base.settings import Settings
from editing.requests.forms.zsre import ZsreTarget
from editing.requests.joining import TargetSpace
from editing.sources.embedded import EMBEDDED
from strategies.conflicts.policies import ConflictRules, PolicyName
from strategies.partitioning.planting import Amount, planted_number, planted_sizes
from strategies.partitioning.splits import SplitName

MOST_PARTIES = 10_000
"""Parties that a run may have; more is a slip of the keyboard."""

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Concentration = Annotated[float, Field(ge=1e-6, le=1e6)]
Count = Annotated[int, Field(ge=1, le=MOST_PARTIES)]


class RequestsConfig(Settings):
    """Which edit requests there are to share out.

    Attributes:
        source: A file of requests, a folder that ``datasets`` saved, a data set of the
            hub (``hub:NAME[:PART][@SPLIT]``), or ``embedded``.
        limit: How many requests of the source to read; all of them if unset.
        seed: Draws which requests are used, how they are split among parties, and what
            is planted there.
        phrasings: How many further phrasings of its fact are edited with a request.
        templates: A JSON file of phrasings by relation; the request's own paraphrases
            if unset.
        zsre_target: Which field of zsRE's records is edited in: the first of
            ``answers``, as in MEMIT, or ``alt``, as in MEND.
        skip: Records of the source to leave out, by the numbers that messages give.
        target_space: Whether a space is put between a prompt and its target: ``auto``
            joins them as running text does, by script and by what the prompt ends with.
    """

    source: str = EMBEDDED
    limit: PositiveInt | None = None
    seed: NonNegativeInt = 0
    phrasings: NonNegativeInt = 0
    templates: str | None = None
    zsre_target: ZsreTarget = "answers"
    skip: tuple[PositiveInt, ...] = ()
    target_space: TargetSpace = "auto"


class PartiesConfig(Settings):
    """How the requests are shared out among parties, and what is left out.

    Attributes:
        count: The number of parties.
        requests_per_round: New requests of each party in a round: one number for all,
            a list with one for each party, or a list of such lists, one for each round;
            the last of them holds for all later rounds. A party that joins late or
            leaves has 0.
        split: Whose a request is. Parties take requests in turn, in the order of the
            source (``contiguous``) or in another (``shuffled``), or whole relations are
            given to them (``relation``), or shares of each relation (``dirichlet``).
        alpha: The concentration of ``dirichlet``: with little of it each party has few
            relations, with much of it all have the same.
        overlap: How many of each party's requests of a round the next party makes too,
            on top of its own: a whole number counts them, and one with a point is a
            share, from 0.0 to 1.0.
        planted_conflicts: How many of them the next party makes with another object.
        allow_empty: Whether a party may have no request.
        skip_known: A party leaves a request out whose residual ratio ``‖z − h‖ / ‖h‖``
            is at most this, because the model already holds it; unset, all are edited.
        deduplicate: Whether a request that several parties make in a round counts once.
        conflicts: What becomes of requests that give one fact different objects.
            ``ignore`` does not look for them, ``none`` reports them and edits all.
        priority: Parties, the first among them first; for ``conflicts = "priority"``.
        keys: The line in each party's public key file, such as ``keys/node_0.pub``, in
            the order of their numbers. A node that says a party's number and is
            registered with another key is refused. If empty, numbers are believed.
        without: Parties that the server lets into no round from now on, by number. A
            resumed run may name others than before.
    """

    count: Count = 10
    requests_per_round: (
        PositiveInt
        | tuple[NonNegativeInt, ...]
        | tuple[tuple[NonNegativeInt, ...], ...]
    ) = 10
    split: SplitName = "contiguous"
    alpha: Concentration = 0.5
    overlap: NonNegativeInt | Share = 0
    planted_conflicts: NonNegativeInt | Share = 0
    allow_empty: bool = False
    skip_known: NonNegative | None = None
    deduplicate: bool = False
    conflicts: Literal["ignore"] | PolicyName = "ignore"
    priority: tuple[NonNegativeInt, ...] = ()
    keys: tuple[str, ...] = ()
    without: tuple[NonNegativeInt, ...] = ()

    def sizes_of(self, number: int) -> tuple[int, ...]:
        """New requests of each party in a round, which is counted from 1."""
        listed = self.listed_sizes
        return listed[min(number, len(listed)) - 1]

    def most_of(self, number: int) -> tuple[int, ...]:
        """New requests of each party in a round, with what is planted at it."""
        sizes = self.sizes_of(number)
        return _add_planted(sizes, self.overlap, self.planted_conflicts)

    @property
    def listed_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of each round that has its own; the last are those of later rounds."""
        given = self.requests_per_round
        if isinstance(given, int):
            return ((given,) * self.count,)
        nested = tuple(each for each in given if isinstance(each, tuple))
        plain = tuple(each for each in given if isinstance(each, int))
        return nested or (plain,)

    @property
    def remaining(self) -> int:
        """How many parties are not left out."""
        return self.count - len(set(self.without))

    @property
    def compares_tokens(self) -> bool:
        """Whether blind tokens of the requests are exchanged."""
        return self.deduplicate or self.conflicts != "ignore"

    @property
    def conflict_rules(self) -> ConflictRules | None:
        """The rules of conflict resolution; None if no tokens are compared."""
        if not self.compares_tokens:
            return None
        return ConflictRules(self.conflicts, self.deduplicate, self.priority)

    @model_validator(mode="after")
    def check_sizes(self) -> "PartiesConfig":
        """Validate lists of sizes against the number of parties.

        Raises:
            ValueError: If a list is of another length or leaves a party empty.
        """
        for sizes in self.listed_sizes:
            if len(sizes) != self.count:
                raise ValueError(
                    f"`requests-per-round` lists {len(sizes)} sizes for {self.count} "
                    "parties; list one for each, or give one number for all"
                )
            if 0 in sizes and not self.allow_empty:
                raise ValueError(
                    f"party {sizes.index(0)} of `requests-per-round` has no request; "
                    "give it one, or set `allow-empty = true`"
                )
        return self

    @model_validator(mode="after")
    def check_planted(self) -> "PartiesConfig":
        """Validate what is planted against the parties and requests.

        Raises:
            ValueError: If there is no next party, or more is planted than one has.
        """
        amounts = (self.overlap, self.planted_conflicts)
        if any(amounts) and self.count < 2:
            raise ValueError(
                "`overlap` and `planted-conflicts` need a next party; set `count` to "
                "2 or more"
            )
        sizes = {size for each in self.listed_sizes for size in each if size}
        for size in sorted(sizes):
            wanted = sum(planted_number(amount, size) for amount in amounts)
            if wanted > size:
                raise ValueError(
                    f"`overlap` and `planted-conflicts` together ask for {wanted} of a "
                    f"party's {size} requests, each of them for one alone; lower them, "
                    "or write a share with a point, such as 0.5"
                )
        return self

    @model_validator(mode="after")
    def check_priority(self) -> "PartiesConfig":
        """Validate the ranking against the parties.

        Raises:
            ValueError: If a party is listed twice, or is none, or nobody is ranked.
        """
        ranked = self.priority
        if len(set(ranked)) < len(ranked) or any(each >= self.count for each in ranked):
            raise ValueError(
                f"`priority` lists parties by number, 0 to {self.count - 1}, each at "
                f"most once; got {list(ranked)}"
            )
        if self.conflicts == "priority" and not ranked:
            raise ValueError(
                '`conflicts = "priority"` wants `priority`, a list of party numbers, '
                "the first among them first"
            )
        return self

    @model_validator(mode="after")
    def check_without(self) -> "PartiesConfig":
        """Validate who is left out against the parties.

        Raises:
            ValueError: If it is no party, or nobody is left.
        """
        if any(each >= self.count for each in self.without):
            raise ValueError(
                f"`without` lists parties by number, 0 to {self.count - 1}; got "
                f"{list(self.without)}"
            )
        if self.remaining == 0:
            raise ValueError(
                f"`without` leaves out all {self.count} parties; keep one or more"
            )
        return self

    @model_validator(mode="after")
    def check_keys(self) -> "PartiesConfig":
        """Validate the table of keys against the parties.

        Raises:
            ValueError: If not each party has a key of its own.
        """
        named = {tuple(line.split()[:2]) for line in self.keys}
        if self.keys and not len(named) == len(self.keys) == self.count:
            raise ValueError(
                f"`keys` lists {len(named)} different public keys for {self.count} "
                "parties; list the line of each party's own key file, such as "
                "`keys/node_0.pub`"
            )
        if any(len(each) < 2 for each in named):
            raise ValueError(
                "`keys` wants lines such as `ecdsa-sha2-nistp384 AAAA…`; copy each "
                "from a party's public key file, such as `keys/node_0.pub`"
            )
        return self


@lru_cache(maxsize=64, typed=True)  # 1 is one request, and 1.0 all of them
def _add_planted(
    sizes: tuple[int, ...], overlap: Amount, conflicts: Amount
) -> tuple[int, ...]:
    planted = planted_sizes(sizes, overlap, conflicts)
    return tuple(sum(pair) for pair in zip(sizes, planted, strict=True))
