"""Laws of the view by party: what the server knows, and what it cannot."""

from pathlib import Path

import pytest
from flwr.app import MetricRecord

from editing.evaluation.metrics import MetricSums
from server.report.data import PartyRecord, Report, RunReport
from server.report.markdown import render_markdown
from server.report.page import render_page
from server.report.parties import PartyBook, caption_parties, lay_out_parties
from strategies.rounds.callbacks import CompletedRound
from strategies.rounds.exchange import ExchangeRecord, Refusal
from strategies.rounds.state import RoundOutcome, RoundState
from strategies.summing.pooled import POOLED
from strategies.wire.messages import TargetsReply
from strategies.wire.metrics import EvaluationSums
from tests.pages import read_page
from tests.server.report.test_data import make_report
from tests.server.runs import Runs

NAMES = {7: "Ada & Co", 9: "party 1"}


def exchange(node: int, seconds: float, size: int) -> ExchangeRecord:
    """Record an exchange with a node, whose party's number is its place."""
    number = list(NAMES).index(node)
    return ExchangeRecord("q", 1, node, number, seconds, 5, size, "ok", NAMES[node])


def completed(
    number: int, outcome: RoundOutcome, found: EvaluationSums
) -> CompletedRound:
    """Complete a round."""
    none = MetricRecord()
    return CompletedRound(RoundState(number, {}, {}), outcome, found, none, {})


def evaluated(right: float, count: int, asked: int = 1) -> EvaluationSums:
    """Give the metrics of one round's requests."""
    sums = {"rewrite_acc": right, "target_loss": 9.0}
    counts = {"rewrite_acc": count, "target_loss": count}
    return EvaluationSums({asked: MetricSums(sums, counts)})


def test_rounds_add_up_and_the_last_evaluation_counts() -> None:
    """Requests, bytes and seconds are sums; metrics replace those of before."""
    book = PartyBook()
    book.label = dict(enumerate(NAMES.values())).__getitem__
    for number in (1, 2):
        book.begin_round()
        for node in NAMES:
            book.add_exchange(exchange(node, 1.5, 100))
        outcome = RoundOutcome(
            targets={7: TargetsReply(requests=4, known=1, left_out=2)}
        )
        outcome.refusals.append(Refusal(9, "it is late", NAMES[9]))
        own = evaluated(1.0, 4) + evaluated(0.0, 4, asked=number)
        book.keep_metrics(0, own)
        found = book.end_round(completed(number, outcome, own))
    ada, other = found
    assert ada.model_dump() == {
        "name": "Ada & Co",
        "requests": 8,
        "known": 2,
        "left_out": 4,
        "rounds": 2,
        "refused": 0,
        "seconds": 3.0,
        "bytes_sent": 200,
        "evaluated": 8,
        "metrics": {"rewrite_acc": 12.5},
    }
    assert (other.requests, other.refused, other.rounds) == (None, 2, 0)
    assert other.metrics == {}
    assert PartyBook(found).end_round(
        completed(0, RoundOutcome(), EvaluationSums())
    ) == tuple(found)


def test_a_masked_sum_is_nobodys() -> None:
    """It tells who took part, and neither requests nor metrics of anyone."""
    book = PartyBook()
    for node in NAMES:
        book.add_exchange(exchange(node, 1.0, 10))
    book.add_sum([1])
    outcome = RoundOutcome(targets={POOLED: TargetsReply(requests=4)})
    found = book.end_round(completed(1, outcome, evaluated(1.0, 4)))
    assert [(each.name, each.rounds) for each in found] == [
        ("Ada & Co", 0),
        ("party 1", 1),
    ]
    assert {each.requests for each in found} == {None}
    assert not any(each.metrics or each.evaluated for each in found)


def with_parties(*records: PartyRecord, masked: bool = False) -> Report:
    """Make a report of a merge with parties."""
    run: RunReport = make_report(collabedit=50.0).runs[0]
    settings = {**run.settings, "privacy": {"secure_sum": masked}}
    changed = run.model_copy(update={"parties": records, "settings": settings})
    return Report(runs=(changed,))


KNOWN = PartyRecord(
    name="<b>Ada</b>",
    requests=4,
    rounds=1,
    seconds=2.25,
    bytes_sent=41_234,
    evaluated=4,
    metrics={"score": 80.0, "rewrite_success": 75.0},
)


@pytest.mark.parametrize(
    ("record", "masked", "said"),
    [
        (KNOWN, False, "metrics of the party's own requests"),
        (KNOWN.model_copy(update={"metrics": {}}), False, "no party evaluated"),
        (PartyRecord(name="<b>Ada</b>", rounds=1), True, "Sums are masked"),
    ],
)
def test_the_view_says_what_the_server_may_know(
    record: PartyRecord, *, masked: bool, said: str
) -> None:
    """On the page and in Markdown; a name is text."""
    report = with_parties(record, masked=masked)
    page = read_page(render_page(report))
    (table,) = [
        each for each in page.all("table") if each.all("caption")[0].text.count(said)
    ]
    assert "<b>Ada</b>" in table.text
    assert said in caption_parties(report)
    assert said in render_markdown(report)
    heads = lay_out_parties(report).heads
    assert ("Requests edited" in heads) == (not masked)
    assert ("Score" in heads) == bool(record.metrics)
    assert "requests.html" in page.text


def test_without_parties_there_is_no_view() -> None:
    """Reports of earlier versions have none."""
    page = read_page(render_page(make_report()))
    assert "Parties" not in [each.text for each in page.all("h2")]
    assert "## Parties" not in render_markdown(make_report())


def weighted(records: tuple[PartyRecord, ...], name: str) -> float:
    """Average a metric over parties, by their requests."""
    counts = {each.name: each.evaluated or 0 for each in records}
    total = sum(each.metrics[name] * counts[each.name] for each in records)
    return total / sum(counts.values())


def test_the_parties_of_a_run_make_up_its_figures(world: Path, tmp_path: Path) -> None:
    """Requests add up, and metrics average to those of all; `global` has no party."""
    report = Runs(world, tmp_path).run(
        run={"compare": True, "merges": '["collabedit", "global"]', "rounds": 2}
    )
    first, pooled = report.runs
    assert pooled.parties == ()
    assert [each.name for each in first.parties] == ["party 0", "party 1", "party 2"]
    asked = sum(each.requests or 0 for each in first.metrics)
    assert sum(each.requests or 0 for each in first.parties) == asked == 12
    for name in ("rewrite_acc", "paraphrase_success", "neighborhood_success"):
        own = [getattr(each, name) for each in first.metrics[-1].by_round]
        assert weighted(first.parties, name) == pytest.approx(sum(own) / len(own))
    for each in first.parties:
        assert (each.rounds, each.refused) == (2, 0)
        assert each.seconds > 0
        assert each.bytes_sent >= first.bytes_per_party
