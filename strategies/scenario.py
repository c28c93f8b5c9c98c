"""The settings that server and clients share, and their flat form.

Flower carries a run's settings as one flat table of kebab-case keys whose values are
strings, numbers or booleans. `flatten` writes settings in that form and `nest` undoes
it: ``parties.requests-per-round = "[3, 2]"`` is the field ``requests_per_round`` of the
table ``parties``. Lists and mappings travel as JSON, and an empty string is a field
left at its default.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.requests.forms.zsre import ZsreTarget
from editing.requests.joining import TargetSpace
from editing.sources.embedded import EMBEDDED, HUB, SELF
from strategies.conflicts.policies import ConflictRules, PolicyName
from strategies.partitioning.planting import planted_number, planted_sizes
from strategies.partitioning.splits import SplitName

FlatValue: TypeAlias = str | int | float | bool
FlatConfig: TypeAlias = Mapping[str, FlatValue]

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Concentration = Annotated[float, Field(ge=1e-6, le=1e6)]

COMPUTE = "compute"
"""The word that has the covariance counted at the start of the run."""

FEDERATED = "federated"
"""The word that has the parties count it together, each on its own texts."""

JSON_OPENINGS = ("[", "{", '"')


class ModelConfig(Settings):
    """Which model every node loads.

    Attributes:
        path: A model directory, a hub id, or ``embedded``.
        dtype: The precision of the weights and of forward passes.
        device: Where the model lies, as torch names it; ``auto`` spreads its blocks
            over the devices that there are.
        threads: How many processor threads one process may use.
    """

    path: str = EMBEDDED
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    threads: PositiveInt = 1


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
    """

    count: PositiveInt = 10
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

    def sizes_of(self, number: int) -> tuple[int, ...]:
        """New requests of each party in a round, which is counted from 1."""
        listed = self.listed_sizes
        return listed[min(number, len(listed)) - 1]

    def planted_sizes_of(self, number: int) -> tuple[int, ...]:
        """What is planted at each party in a round, on top of its new requests."""
        sizes = self.sizes_of(number)
        return planted_sizes(sizes, self.overlap, self.planted_conflicts)

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


class PriorConfig(Settings):
    """What holds the rest of the model in place.

    Attributes:
        covariance: A covariance file, a folder of MEMIT's statistics, a list of its
            files, one for each edited layer, ``compute`` to count it on `text`, or
            ``federated`` to pool what the parties count on texts of their own.
        text: A file of plain text, one document a line, or ``embedded``; under
            ``federated`` simulated parties share it out among them. To ``compute``, a
            data set may also be named as ``hub:NAME``, or ``self`` has the model write.
        tokens: Tokens of the text after which to stop; unset, all of a file, and
            132 000 of a data set or of the model's own text.
        weight: The prior weight; MEMIT's ``mom2_update_weight`` if unset.
        memory_weight: The weight ``γ`` of earlier rounds' grams; 0 forgets them, and
            ``lambda`` stands for the prior weight.
        memory_keys: Which keys the grams are made of: those that the round was
            ``solved`` with, or those of the ``edited`` model, read again after the
            round (AlphaEdit, arXiv 2410.02355).
    """

    covariance: str | tuple[str, ...] = COMPUTE
    text: str = EMBEDDED
    tokens: PositiveInt | None = None
    weight: Positive | None = None
    memory_weight: NonNegative | Literal["lambda"] = 1.0
    memory_keys: Literal["solved", "edited"] = "solved"

    @field_validator("covariance", mode="before")
    @classmethod
    def check_covariance(cls, given: object) -> object:
        """Validate the names of one file or several; a list becomes a tuple.

        Raises:
            ValueError: If it is neither a text nor a list of texts.
        """
        listed = tuple(given) if isinstance(given, list | tuple) else (given,)
        if not all(isinstance(each, str) for each in listed):
            got = json.dumps(given, default=str)
            raise ValueError(
                f"wanted a text or a list of texts, got {got}; name one file or "
                "folder, or one .npz file for each edited layer"
            )
        return given if isinstance(given, str) else listed

    @model_validator(mode="after")
    def check_text(self) -> "PriorConfig":
        """Validate that a text of the parties is finite, and is used whole.

        Raises:
            ValueError: If it is the model's or the hub's, which are nobody's own, or
                the number of tokens is limited.
        """
        shareable = self.text != SELF and not self.text.startswith(HUB)
        if self.covariance == FEDERATED and not shareable:
            raise ValueError(
                '`covariance = "federated"` counts on texts of the parties\' own, and '
                f"`text` is {self.text!r}; name a file, or let the server `compute`"
            )
        if self.covariance == FEDERATED and self.tokens is not None:
            raise ValueError(
                '`covariance = "federated"` counts all tokens of the parties\' texts; '
                "leave `tokens` out, or let the server `compute`"
            )
        return self


def flatten(settings: BaseModel) -> dict[str, FlatValue]:
    """Write settings as Flower's flat table; `nest` undoes it."""
    flat: dict[str, FlatValue] = {}
    for field in type(settings).model_fields:
        key, value = field.replace("_", "-"), getattr(settings, field)
        if isinstance(value, BaseModel):
            inner = flatten(value)
            flat |= {f"{key}.{name}": child for name, child in inner.items()}
        else:
            flat[key] = encode_value(value)
    return flat


def encode_value(value: object) -> FlatValue:
    """Write one value so that it is a string, a number or a boolean."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Path):
        return encode_value(str(value))
    if isinstance(value, str) and value and not value.startswith(JSON_OPENINGS):
        return value
    return json.dumps(value, ensure_ascii=False)


def decode_value(key: str, value: FlatValue) -> object:
    """Undo `encode_value`.

    Raises:
        InputError: If the value begins like JSON and is none.
    """
    if not isinstance(value, str) or not value.startswith(JSON_OPENINGS):
        return value
    try:
        decoded: object = json.loads(value)
    except json.JSONDecodeError as error:
        raise InputError(
            f"`{key}`: wanted JSON after the opening `{value[0]}`, got {value!r} "
            f"({error.msg} at character {error.pos}); write a list as `[1, 2]`, and a "
            "text that begins so in quotation marks"
        ) from None
    return decoded


def nest(flat: FlatConfig) -> dict[str, object]:
    """Rebuild nested tables, field names underscored, from Flower's flat table.

    Raises:
        InputError: If a key is both a value and a table, or a value is broken JSON.
    """
    nested: dict[str, object] = {}
    for key, value in flat.items():
        *tables, field = key.replace("-", "_").split(".")
        level = nested
        for table in tables:
            child = level.setdefault(table, {})
            if not isinstance(child, dict):
                raise InputError(f"`{key}`: `{table}` is a value and cannot hold keys")
            level = child
        if field in level:
            raise InputError(f"`{key}`: given twice, or both a value and a table")
        if value != "":
            level[field] = decode_value(key, value)
    return nested
