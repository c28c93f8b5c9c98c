"""Split a source of requests into one private file a party, for real nodes."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt, ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from clients.own_requests import shared_requests
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.base.validation import SETTINGS, find_faults
from editing.files.atomic import write_private
from editing.files.text import parse_json
from editing.requests.edit_request import EditRequest, to_counterfact
from editing.requests.forms.zsre import ZsreTarget
from editing.requests.joining import TargetSpace
from editing.sources.embedded import EMBEDDED
from server.output import create_output_folder
from sims.console import open_console
from strategies.partitioning.partitions import share_requests
from strategies.partitioning.planting import Amount, PartyRequests, Planting, Shares
from strategies.partitioning.settings import (
    Concentration,
    PartiesConfig,
    RequestsConfig,
    Share,
)
from strategies.partitioning.splits import (
    Split,
    SplitName,
    partition_whole,
    relation_of,
)
from strategies.scenario import ModelConfig

SUMMARY = "summary.json"

OPTIONS = {
    "source": "requests",
    "requests_per_round": "sizes",
    "planted_conflicts": "conflicts",
}
"""Options whose name is not that of the setting."""


class SplitOrder(Settings):
    """What is to be split, and how; `PartiesConfig` has the meaning of each.

    Attributes:
        source: A file of requests, or ``embedded``.
        parties: How many files.
        sizes: As ``requests-per-round``; None splits the whole source in one round.
        rounds: For how many rounds the files are.
        skip: Records of the source to leave out.
        target_space: Whether a space is put before targets; other than ``auto``, the
            files say so, too.
    """

    source: str
    parties: PositiveInt
    split: SplitName = "contiguous"
    alpha: Concentration = 0.5
    sizes: PositiveInt | tuple[NonNegativeInt | tuple[NonNegativeInt, ...], ...] | None
    rounds: PositiveInt = 1
    overlap: NonNegativeInt | Share = 0
    conflicts: NonNegativeInt | Share = 0
    seed: NonNegativeInt = 0
    limit: PositiveInt | None = None
    zsre_target: ZsreTarget = "answers"
    skip: tuple[PositiveInt, ...] = ()
    target_space: TargetSpace = "auto"

    def settings(self, sizes: object) -> PartiesConfig:
        """The settings of a run that shares its requests out in the same way.

        Args:
            sizes: Its ``requests-per-round``.

        Raises:
            InputError: If they are refused.
        """
        values = {
            "count": self.parties,
            "requests_per_round": sizes,
            "split": self.split,
            "alpha": self.alpha,
            "overlap": self.overlap,
            "planted_conflicts": self.conflicts,
            "allow_empty": True,
        }
        try:
            return PartiesConfig.model_validate(values)
        except ValidationError as error:
            raise InputError(explain(error)) from None


class PartySummary(Settings):
    """What one party's file holds, without any of its text.

    Attributes:
        file: Its name.
        requests: How many it holds in all, by round.
        own: How many are from the source and no other party's.
        copies: How many another party makes too.
        conflicts: How many contradict another party's.
        relations: How many of its own are of which relation.
    """

    file: str
    requests: tuple[int, ...]
    own: int
    copies: int
    conflicts: int
    relations: dict[str, int]


class SplitSummary(Settings):
    """What was split, how, and into what; it holds no text of a request.

    Attributes:
        order: The settings.
        requests: How many requests were taken from the source.
        digest: SHA-256 of these, as JSON Lines by case number.
        relations: How many relations they have.
        broken: How many of these are at several parties.
        run: The settings of a run on these files.
    """

    order: SplitOrder
    requests: int
    digest: str
    relations: int
    broken: int
    parties: tuple[PartySummary, ...]
    run: dict[str, int | bool | tuple[tuple[int, ...], ...]]


def split_source(order: SplitOrder, output: Path, tokens_of: str | None = None) -> None:
    """Write a folder of private files, one a party, and a summary; show the summary.

    Args:
        order: What is split, and how.
        output: The folder to make.
        tokens_of: A model whose tokens of the first requests are shown.
    """
    shares = share_source(order)
    per_party = list(
        zip(*(shares.in_round(1 + n) for n in range(order.rounds)), strict=True)
    )
    summary = summarise(order, shares, per_party)
    with create_output_folder(output.absolute()) as draft:
        draft.chmod(0o700)
        for party, own in zip(summary.parties, per_party, strict=True):
            requests = [
                request for party_requests in own for request in party_requests.requests
            ]
            write_private(draft / party.file, write_lines(requests))
        write_private(draft / SUMMARY, summary.model_dump_json(indent=1) + "\n")
    show(summary, open_console())
    if tokens_of is not None:
        from sims.running_text import show_tokens

        show_tokens(shares.pool, tokens_of, open_console())
    open_console().print(f"Files: {output}", soft_wrap=True, highlight=False)


def share_source(order: SplitOrder) -> Shares:
    """Share a source out among parties, as a run with these settings does.

    Raises:
        InputError: If a party would have no request.
    """
    requests = RequestsConfig(
        source=order.source,
        limit=order.limit,
        seed=order.seed,
        zsre_target=order.zsre_target,
        skip=order.skip,
        target_space=order.target_space,
    )
    kind = PartiesConfig(count=order.parties, split=order.split)
    pool = shared_requests(ModelConfig(), requests, kind)
    whole = order.sizes is None
    shares = share_whole(order, pool) if whole else share_sizes(order, pool)
    rounds = shares.rounds[: order.rounds]
    for party in range(order.parties):
        if not any(places[party] for places in rounds):
            raise InputError(
                f"Party {party} would have no request. Lower --parties, or set with "
                "--sizes how many each is to have"
            )
    return shares


def share_sizes(order: SplitOrder, pool: Sequence[EditRequest]) -> Shares:
    """Share out what parties ask for, round by round.

    Raises:
        InputError: If there are too few requests.
    """
    config = order.settings(order.sizes)
    wanted = sum(sum(config.sizes_of(1 + n)) for n in range(order.rounds))
    if len(pool) < wanted:
        once = ", each subject once" if order.source == EMBEDDED else ""
        raise InputError(
            f"--sizes: {order.parties} parties take {wanted} requests in "
            f"{order.rounds} round(s), and {order.source} gives {len(pool)}{once}; "
            "lower --sizes, --rounds or --parties"
        )
    return share_requests(pool, config, order.seed)


def share_whole(order: SplitOrder, pool: Sequence[EditRequest]) -> Shares:
    """Share out all that there is, in one round.

    Raises:
        InputError: If several rounds are asked for.
    """
    if order.rounds > 1:
        raise InputError(
            "--rounds wants --sizes, the requests of each party in a round"
        )
    relations = [relation_of(request) for request in pool]
    split = Split(order.split, order.alpha, order.seed)
    places = partition_whole(relations, order.parties, split)
    order.settings(tuple(map(len, places)))  # holds what is planted to the sizes
    planting = Planting(order.overlap, order.conflicts, order.seed)
    return Shares(pool, order.parties, (places,), planting)


def summarise(
    order: SplitOrder, shares: Shares, per_party: Sequence[Sequence[PartyRequests]]
) -> SplitSummary:
    """Count what each party has.

    Args:
        order: The settings.
        shares: The source, shared out.
        per_party: Each party's requests, round by round.
    """
    labels = label_relations(shares.pool)
    parties = tuple(
        PartySummary(
            file=f"party_{party}.jsonl",
            requests=tuple(len(party_requests.requests) for party_requests in own),
            own=sum(len(party_requests.own) for party_requests in own),
            copies=sum(len(party_requests.copies) for party_requests in own),
            conflicts=sum(len(party_requests.contradictions) for party_requests in own),
            relations=count_relations(
                (request for party_requests in own for request in party_requests.own),
                labels,
            ),
        )
        for party, own in enumerate(per_party)
    )
    sizes = tuple(zip(*(party.requests for party in parties), strict=True))
    named = [label for party in parties for label in party.relations]
    by_number = sorted(shares.pool, key=lambda request: request.case_id)
    return SplitSummary(
        order=order,
        requests=len(shares.pool),
        digest=hashlib.sha256(write_lines(by_number).encode()).hexdigest(),
        relations=len(labels),
        broken=sum(named.count(label) > 1 for label in set(named)),
        parties=parties,
        run={
            "parties.count": order.parties,
            "parties.requests-per-round": sizes,
            "parties.allow-empty": any(0 in each for each in sizes),
            "run.rounds": order.rounds,
        },
    )


def label_relations(pool: Sequence[EditRequest]) -> dict[str, str]:
    """Name relations by their ids, and prompts that replace an id by number."""
    labels: dict[str, str] = {}
    prompts = 0
    for request in pool:
        relation = relation_of(request)
        if relation not in labels and not request.relation_id:
            prompts += 1
        labels.setdefault(relation, request.relation_id or f"prompt {prompts}")
    return labels


def count_relations(
    requests: Iterable[EditRequest], labels: dict[str, str]
) -> dict[str, int]:
    """Count requests by relation, the most frequent first."""
    counts: dict[str, int] = {}
    for request in requests:
        label = labels[relation_of(request)]
        counts[label] = counts.get(label, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))


def write_lines(requests: Sequence[EditRequest]) -> str:
    """Write requests in CounterFact's form, one a line."""
    lines = (json.dumps(to_counterfact(r), ensure_ascii=False) for r in requests)
    return "".join(f"{line}\n" for line in lines)


def show(summary: SplitSummary, console: Console) -> None:
    """Print the counts of each party; the summary names the relations."""
    table = Table(box=SIMPLE_HEAD)
    heads = ("Requests", "Own", "Copies", "Conflicts", "Relations", "Largest")
    table.add_column("File")
    for head in heads:
        table.add_column(head, justify="right")
    for party in summary.parties:
        largest = max(party.relations.values(), default=0)
        share = f"{largest / party.own:.0%}" if party.own else ""
        counts = (sum(party.requests), party.own, party.copies, party.conflicts)
        row = [*map(str, counts), str(len(party.relations)), share]
        table.add_row(party.file, *row)
    console.print(table)
    console.print(
        f"{summary.broken} of {summary.relations} relations are at several parties",
        highlight=False,
    )


def read_sizes(text: str | None) -> object:
    """Read ``10``, ``10,20,30``, or a JSON list of one list for each round.

    Raises:
        InputError: If it is none of these.
    """
    if text is None:
        return None
    try:
        if text.startswith("["):
            return parse_json(text)
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            "--sizes: wanted one number for all parties, one for each as in 10,20,30, "
            f'or one list for each round as in "[[3, 2], [1, 2]]"; got {text!r}'
        ) from None
    return sizes if len(sizes) > 1 else sizes[0]


def read_numbers(text: str | None, option: str) -> tuple[int, ...]:
    """Read whole numbers between commas.

    Raises:
        InputError: If they are none.
    """
    try:
        numbers = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        numbers = (0,)
    if any(number < 1 for number in numbers):
        raise InputError(f"{option}: wanted numbers from 1, as in 4,17; got {text!r}")
    return numbers


def read_amount(text: str, option: str) -> Amount:
    """Read a whole number, or a share, which has a point and is from 0.0 to 1.0.

    Raises:
        InputError: If it is neither.
    """
    try:
        amount = float(text) if "." in text else int(text)
    except ValueError:
        amount = -1
    if amount < 0 or (isinstance(amount, float) and not amount <= 1):
        raise InputError(
            f"{option}: wanted a whole number of requests such as 2, or a share with a "
            f"point from 0.0 to 1.0 such as 0.5; got {text!r}"
        )
    return amount


def explain(error: ValidationError) -> str:
    """Explain in one line which option was refused and why."""
    fault = find_faults(error, SplitOrder, SETTINGS)[0]
    option = OPTIONS.get(fault.key.replace("-", "_"), fault.key)
    return f"--{option}: {fault.reason}" if option else fault.reason
