"""Remove a party from a finished run: the update without its edits, exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from torch import Tensor

from editing.algebra.deltas import (
    applied,
    load_delta,
    open_delta,
    relative_difference,
    save_delta,
)
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.files.atomic import write_whole
from editing.files.json_text import dump_json
from editing.requests.edit_request import EditRequest
from server.kept_statistics import STATISTICS, KeptRound, read_rounds
from server.output import create_output_folder
from server.preparation import Preparation
from server.report.tables import headings, write_number
from sims.console import open_console
from sims.deltas.files import FILE
from sims.results.finished import FinishedRun, find_run
from sims.results.replay import Replay, leave_out, replay
from sims.results.subtraction import OwnFiles, Widths, take_back
from strategies.methods import Method
from strategies.scenario import FEDERATED
from strategies.wire.deltas import Updates

SHOWN = (
    "score",
    "rewrite_success",
    "paraphrase_success",
    "neighborhood_success",
    "rewrite_acc",
)
"""The metrics that are printed."""

AGREES = 1e-6
"""Relative difference that a delta's file, in float32, may have to what is replayed."""

RECORD = "removal.json"

OWN_WORD = (
    "What was subtracted from the secure sums is the party's own word: that it was in "
    "them is checked only as far as what is left can be statistics of others."
)

Metrics = dict[str, dict[str, dict[str, float]]]
"""Of the ``removed`` party's requests and ``others``, ``before`` and ``after``."""


class Removal(Settings):
    """What a removal did.

    Attributes:
        run: The folder of the run.
        party: Who was removed.
        rounds: The rounds that it took part in.
        edits: How many edits of it were removed.
        remaining: How many others stay.
        replay_difference: ``‖Δ − Δ_run‖ / ‖Δ_run‖`` of the run solved again with
            everybody; what is left of float32 in its file.
        change: ``‖Δ' − Δ‖ / ‖Δ‖`` that the removal made, the largest over layers.
        limits: What the new update still owes to the party.
        metrics: Of the removed party's requests and of the others', before and after,
            if they are known here.
    """

    run: str
    party: int
    rounds: tuple[int, ...]
    edits: int
    remaining: int
    replay_difference: float
    change: float
    limits: tuple[str, ...]
    metrics: Metrics = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Solved:
    """A run with and without a party.

    Attributes:
        whole: The updates of everybody.
        rest: Those without the party.
    """

    whole: Mapping[str, Tensor]
    rest: Mapping[str, Tensor]


def remove_party(
    party: int, results: Path, output: Path, own: Path | None = None
) -> Removal:
    """Write the update of a run without a party to a new folder.

    Args:
        party: Its number.
        results: The folder of the run, or of one merge of a comparison.
        output: The folder to make.
        own: What the party kept of its own statistics, if the run has secure sums.

    If nothing was kept, the party took no part, or files of the run are not what they
    were, an `InputError` says so.
    """
    run = find_run(results)
    method = run.config.merge.build()
    check_method(run, method)
    prepared = run.prepare()
    gamma, editor = prepared.memory_weight(run.config.prior), run.config.editor.build()
    layers = prepared.layers(gamma, run.config.run, editor=editor)
    widths = {layer: (each.d_out, each.d_in) for layer, each in layers.items()}
    rounds = read_rounds(run.folder / STATISTICS, widths)
    check_party(run, party, rounds)
    left = leave(run, party, rounds, own, widths)
    updates = Updates({}, {}, run.config.run.encoding_down, prepared.model.dtype)
    whole, rest = replay(rounds, left, Replay(layers, updates), method.merge)
    solved = Solved(whole.updates.delta, rest.updates.delta)
    found = describe(run, party, list(zip(rounds, left, strict=True)), solved)
    with create_output_folder(output) as draft:
        if asked := run.requests():
            metrics = evaluate(prepared, run, asked, party, solved)
            found = found.model_copy(update={"metrics": metrics})
        metadata = {**open_delta(run.folder / FILE).metadata, "without": [party]}
        requests = found.remaining // (1 + run.config.requests.phrasings)
        metadata["requests"] = requests
        if editor.answers is not None:  # edits are answers' tokens
            del metadata["requests"]
        save_delta(solved.rest, draft / FILE, metadata)
        write_whole(draft / RECORD, dump_json(found.model_dump(mode="json"), 2) + "\n")
    return found


def check_method(run: FinishedRun, method: Method) -> None:
    """Refuse a run whose parties are not apart.

    Raises:
        InputError: If it is `global`, or its editor makes values of all parties' rows.
    """
    if method.pooled:
        raise InputError(
            f"{run.folder}: `global` lays all requests at one party, so none can be "
            "removed; choose a merge of the parties' statistics"
        )
    rule = run.config.editor.build().answers
    if rule is not None and rule.pools:
        raise InputError(
            f"{run.folder}: the editor {run.config.editor.name!r} standardises all "
            "parties' values by the moments of all, so those of the others would be "
            "others without one of them; run again with `parties.without`"
        )


def check_party(run: FinishedRun, party: int, rounds: Sequence[KeptRound]) -> None:
    """Refuse a party that edited nothing.

    Raises:
        InputError: If it took part in no round.
    """
    known = sorted({each for kept in rounds for each in kept.parties})
    if party not in known:
        raise InputError(
            f"{run.folder}: party {party} took part in no round; the parties with "
            f"edits are {', '.join(map(str, known))}"
        )


def leave(
    run: FinishedRun,
    party: int,
    rounds: Sequence[KeptRound],
    own: Path | None,
    widths: Widths,
) -> list[KeptRound]:
    """Return the statistics of all others.

    Raises:
        InputError: If the party's own files are needed and not given, or not needed.
    """
    together = any(kept.sums for kept in rounds)
    if together and own is None:
        raise InputError(
            f"{run.folder}: its sums were under masks, so party {party} alone knows "
            "what it added. Its node keeps that with `keep-statistics = true`: ask for "
            "the folder `statistics`, and name it with --own"
        )
    if own is None:
        return leave_out(rounds, {party})
    if not together:
        raise InputError(
            f"{run.folder}: the run kept each party's statistics; leave --own out"
        )
    return take_back(rounds, OwnFiles.find(own, party), widths)


def describe(
    run: FinishedRun,
    party: int,
    rounds: Sequence[tuple[KeptRound, KeptRound]],
    solved: Solved,
) -> Removal:
    """Count what was removed, and hold the replay to the run's own delta.

    Args:
        run: The run.
        party: Who was removed.
        rounds: What was kept, and what of it stays.
        solved: The updates with and without the party.

    Raises:
        InputError: If the run solved again is not the run, or nothing is removed.
    """
    written, _ = load_delta(run.folder / FILE)
    difference = relative_difference(solved.whole, written)
    if not difference <= AGREES:
        raise InputError(
            f"{run.folder}: what is kept gives another update than {FILE} holds "
            f"(relative difference {difference:.2g}); one of them was changed"
        )
    after = [_count(rest) for _, rest in rounds]
    edits = [_count(kept) - _count(rest) for kept, rest in rounds]
    taken = tuple(n for n, own in enumerate(edits, 1) if own > 0)
    if not taken:
        raise InputError(f"{run.folder}: party {party} had no edit in any round")
    whole = solved.whole
    rest = {name: solved.rest.get(name, 0 * each) for name, each in whole.items()}
    return Removal(
        run=str(run.folder),
        party=party,
        rounds=taken,
        edits=sum(edits),
        remaining=sum(after),
        replay_difference=difference,
        change=relative_difference(rest, whole),
        limits=(
            *list_limits(run, taken, len(rounds), len(whole)),
            *([OWN_WORD] if any(kept.sums for kept, _ in rounds) else ()),
        ),
    )


def list_limits(
    run: FinishedRun, taken: Sequence[int], rounds: int, layers: int
) -> list[str]:
    """Say what the other parties' statistics still owe to the removed party."""
    found = []
    config = run.config
    if taken[0] < rounds:
        found.append(
            f"Keys, hidden states and targets of rounds after {taken[0]} were read on "
            "a model that had the party's edits."
        )
    if config.editing.schedule in {"layerwise", "boundary"} and layers > 1:
        found.append(
            "Keys and residuals of later layers were read on a model that had the "
            "round's update of the earlier ones, the party's edits included."
        )
    if config.parties.conflict_rules is not None:
        found.append(
            "Requests that the party's requests ruled out stay out; those of others "
            "that ruled its own out stay in."
        )
    if config.prior.covariance == FEDERATED:
        found.append("The covariance still counts the party's text.")
    return found or ["None: keys and targets of all others owe nothing to the party."]


def evaluate(
    prepared: Preparation,
    run: FinishedRun,
    asked: Mapping[int, Sequence[EditRequest]],
    party: int,
    solved: Solved,
) -> Metrics:
    """Evaluate the removed party's requests and the others', before and after."""
    others = [each for k, own in asked.items() if k != party for each in own]
    groups = {"removed": asked.get(party, ()), "others": others}
    found: Metrics = {"removed": {}, "others": {}}
    for when, delta in (("before", solved.whole), ("after", solved.rest)):
        with applied(delta, prepared.model.model):
            for name, each in groups.items():
                cases = evaluate_requests(prepared.model, each, run.config.evaluation)
                found[name][when] = sum_cases(cases).means()
    return found


def _count(kept: KeptRound) -> int:
    """Count the edits of a round, which are the same in every layer."""
    return sum(part.count for part in next(iter(kept.solved.values()), {}).values())


def show_removal(found: Removal) -> None:
    """Print what a removal did, and what it could not do."""
    console = open_console()
    lines = [
        f"Party {found.party} removed: {found.edits} edits of rounds "
        f"{', '.join(map(str, found.rounds))}; {found.remaining} edits stay.",
        f"The update changed by {found.change:.3g} of its norm; solved again with "
        f"everybody, it is within {found.replay_difference:.1g} of the run's.",
        *(f"Limit: {each}" for each in found.limits),
    ]
    for name, metrics in found.metrics.items():
        before, after = metrics["before"], metrics["after"]
        shown = [each for each in SHOWN if each in before]
        for heading, each in zip(headings(shown), shown, strict=True):
            lines.append(
                f"{name:8} {heading:4} {write_number(each, before[each]):>6} before, "
                f"{write_number(each, after[each]):>6} after"
            )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
