"""What each observer of a finished run can tell about guessed requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from pathlib import Path

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from editing.algebra.deltas import Delta, load_delta
from editing.base.settings import Settings
from editing.files.atomic import write_private
from editing.files.json_text import dump_json
from editing.memit.keys import extract_keys
from editing.requests.edit_request import EditRequest, read_requests
from editing.sources.embedded import resolve_source
from server.kept_statistics import STATISTICS, read_rounds
from server.preparation import Preparation
from sims.audit.guesses import Guess, are_among, distinct, index_objects
from sims.audit.objects import name_objects
from sims.audit.observers import Seen, see_statistics, see_update
from sims.audit.scores import Success, Verdict, measure
from sims.deltas.files import FILE
from sims.results.finished import FinishedRun, find_run

Truth = Mapping[int | None, Bool[Tensor, " n"]]
"""Which guesses are right: of each party, and under None of all together."""


class Line(Settings):
    """One test of one observer.

    Attributes:
        observer: Who it is.
        test: What it looks at.
        accepted: How many guesses it says are right, of each party's if statistics of
            single parties are tested; None if it only ranks.
        guesses: How many there are, likewise.
        right: How many are, if the parties' requests are known here.
        recall: See `sims.audit.scores.Success`.
        false_alarms: Likewise.
        auc: Likewise.
        named: The accepted guesses, each once: the words before it, and the subject.
    """

    observer: str
    test: str
    accepted: int | None
    guesses: int
    right: int | None = None
    recall: float | None = None
    false_alarms: float | None = None
    auc: float | None = None
    named: tuple[str, ...] = ()


class Audit(Settings):
    """What was found.

    Attributes:
        run: The folder of the run.
        layer: The first edited layer, whose keys were tested.
        widths: ``(d_out, d_in)`` of it.
        edits: How many edits the run made.
        lines: One a test.
        objects: For edited subjects, how often each prompt names the right object.
        chance: What naming objects by chance would give.
        notes: What could not be tested, and why.
    """

    run: str
    layer: int
    widths: tuple[int, int]
    edits: int
    lines: tuple[Line, ...]
    objects: dict[str, float] = Field(default_factory=dict)
    chance: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """A run with its model loaded, and the guesses.

    Attributes:
        run: The run.
        prepared: Its model, plan and prior.
        delta: Its update.
        edits: How many edits it was solved from; a run sends the number openly.
        requests: One a guess.
    """

    run: FinishedRun
    prepared: Preparation
    delta: Delta
    edits: int
    requests: Mapping[Guess, EditRequest]

    @property
    def layer(self) -> int:
        """The first edited layer."""
        return self.prepared.plan.parameters.layers[0]

    def see(self) -> tuple[list[Seen], list[str]]:
        """Let every observer test the guesses; name those that hold nothing."""
        model, plan = self.prepared.model, self.prepared.plan
        asked = [*self.requests.values()]
        keys = extract_keys(model, asked, plan.templates, [self.layer])[self.layer]
        widths = {k: model.widths(k) for k in plan.parameters.layers}
        seen, notes = list[Seen](), list[str]()
        if (self.run.folder / STATISTICS).is_dir():
            rounds = read_rounds(self.run.folder / STATISTICS, widths)
            seen += see_statistics(rounds, self.layer, keys)
        else:
            notes.append(
                "The run kept no statistics (`output.statistics`), so what the server "
                "saw of them is not tested."
            )
        update = self.delta[model.weight_name(self.layer)]
        prior = self.prepared.covariance.moments[self.layer].double()
        if self.edits > len(update):
            notes.append(
                f"{self.edits} edits are more than the {len(update)} rows of the "
                "update: their span cannot be read off it."
            )
        return [*seen, *see_update(update, prior, self.edits, keys)], notes


def audit_run(results: Path, guesses: str, output: Path | None = None) -> Audit:
    """Test guesses as each observer of a run can, and write what was found.

    Args:
        results: The folder of the run, or of one merge of a comparison.
        guesses: A source of requests; each is a guess.
        output: A JSON file for the owner alone; none is written if absent.
    """
    run = find_run(results)
    model = run.config.model.path
    source = resolve_source(guesses, model, "requests.json", "--guesses")
    requests = distinct(read_requests(source))
    delta, metadata = load_delta(run.folder / FILE)
    edits = int(str(metadata["requests"])) * (1 + run.config.requests.phrasings)
    observed = Observed(run, run.prepare(), delta, edits, requests)
    seen, notes = observed.see()
    asked = run.requests()
    truth = _truth(asked, requests) if asked else None
    if truth is None:
        notes.append("The parties' requests are not here, so nobody says who is right.")
    found = Audit(
        run=str(run.folder),
        layer=observed.layer,
        widths=observed.prepared.model.widths(observed.layer),
        edits=edits,
        lines=tuple(_lines(seen, truth, [*requests])),
        notes=tuple(notes),
        **_objects(observed, [each for own in asked.values() for each in own]),
    )
    if output is not None:
        write_private(output, dump_json(found.model_dump(mode="json"), 2) + "\n")
    return found


def _truth(
    asked: Mapping[int, Sequence[EditRequest]], guesses: Mapping[Guess, EditRequest]
) -> Truth:
    """Say which guesses each simulated party asked for, in all rounds."""
    found: dict[int | None, Bool[Tensor, " n"]] = {
        party: are_among(guesses, own) for party, own in asked.items()
    }
    everybody = [each for own in asked.values() for each in own]
    return {**found, None: are_among(guesses, everybody)}


def _lines(
    seen: Sequence[Seen], truth: Truth | None, guesses: Sequence[Guess]
) -> list[Line]:
    """Put an observer's tests of single parties into one line."""
    kinds = dict.fromkeys((each.observer, each.verdict.test) for each in seen)
    return [
        _line(
            observer,
            [e for e in seen if (e.observer, e.verdict.test) == (observer, test)],
            truth,
            guesses,
        )
        for observer, test in kinds
    ]


def _line(
    observer: str, seen: Sequence[Seen], truth: Truth | None, guesses: Sequence[Guess]
) -> Line:
    scores = torch.cat([each.verdict.scores for each in seen])
    first = seen[0].verdict
    verdict = Verdict(first.test, scores, first.limit)
    accepted = verdict.accepted
    line = Line(
        observer=observer,
        test=first.test,
        accepted=None if accepted is None else int(accepted.sum()),
        guesses=len(scores),
        named=_name_accepted(seen, guesses),
    )
    if truth is None:
        return line
    nobody = torch.zeros_like(truth[None])
    edited = torch.cat([truth.get(each.party, nobody) for each in seen])
    found: Success = measure(verdict, edited)
    return line.model_copy(
        update={
            "right": found.right,
            "recall": found.recall,
            "false_alarms": found.false_alarms,
            "auc": found.auc,
        }
    )


def _name_accepted(seen: Sequence[Seen], guesses: Sequence[Guess]) -> tuple[str, ...]:
    """Name the guesses that a test accepts, of any party's."""
    found = [
        each.verdict.accepted for each in seen if each.verdict.accepted is not None
    ]
    if not found:
        return ()
    accepted = torch.stack(found).any(dim=0)
    return tuple(
        f"{guess.beginning}{guess.subject}"
        for guess, right in zip(guesses, accepted.tolist(), strict=True)
        if right
    )


def _objects(observed: Observed, asked: Sequence[EditRequest]) -> dict[str, object]:
    """Name the objects of all that was asked for, and count the right names."""
    if not asked:
        return {}
    objects = index_objects([*asked, *observed.requests.values()])
    named = name_objects(observed.prepared.model, observed.delta, asked, objects)
    wanted = [each.target_new for each in asked]
    shares = {
        prompt: sum(map(eq, names, wanted)) / len(wanted)
        for prompt, names in named.items()
    }
    return {"objects": shares, "chance": 1 / len(objects)}
