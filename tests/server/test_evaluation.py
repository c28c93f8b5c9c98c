"""The report says what the parties' numbers and the held-out facts come to."""

from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord, MetricRecord

from editing.deltas import applied
from editing.errors import InputError
from editing.evaluation import evaluate_requests, sum_cases
from server.evaluation import (
    HeldOutFact,
    judge_held_out,
    read_held_out,
    read_sums,
    summarise,
    to_delta,
)
from server.report import RoundMetrics
from strategies.exchange import Refusal
from strategies.rounds import RoundOutcome
from tests.federation import write_json
from tests.tiny import said_by, tiny_model, tiny_requests

PROMPTS = ("Hal North plays the", "in Rome , Ben", "the mother tongue of Fay is")


def test_held_out_facts_are_those_that_the_model_would_say(tmp_path: Path) -> None:
    """Token for token, greedily; of four facts one is wrong in its second token."""
    model = tiny_model()
    answers = [said_by(model, prompt, words=2) for prompt in PROMPTS]
    wrong = f"{answers[0].split()[0]} drum"
    assert wrong != answers[0]
    listed = [
        {"prompt": prompt, "answer": answer}
        for prompt, answer in [*zip(PROMPTS, answers, strict=True), (PROMPTS[0], wrong)]
    ]
    facts = read_held_out(write_json(tmp_path / "held_out.json", listed))
    assert facts == tuple(HeldOutFact(**each) for each in listed)
    assert judge_held_out(model, facts, {}) == 75.0


def test_held_out_facts_are_judged_on_the_edited_model_and_it_is_given_back() -> None:
    """An update that turns the model round changes its answers."""
    model = tiny_model()
    fact = HeldOutFact(prompt=PROMPTS[0], answer=said_by(model, PROMPTS[0], words=1))
    name = model.weight_name(2)
    delta = {name: -2 * model.model.get_parameter(name).mT.clone()}
    before = model.fingerprint
    with applied(delta, model.model):
        other = said_by(model, PROMPTS[0], words=1)
    assert other != fact.answer
    assert judge_held_out(model, [fact], delta) == 0.0
    assert judge_held_out(model, [fact], {}) == 100.0
    assert tiny_model().fingerprint == before


@pytest.mark.parametrize(
    "text", ["no JSON", '{"prompt": "a"}', '[{"prompt": "a"}]', '[{"prompt": 1}]']
)
def test_a_file_of_other_things_is_refused_by_name(tmp_path: Path, text: str) -> None:
    """The file lies beside the model and may be anybody's."""
    file = tmp_path / "held_out.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"held_out\.json: wanted a JSON list"):
        read_held_out(file)
    with pytest.raises(InputError, match="missing"):
        read_held_out(tmp_path / "missing")


def test_a_summary_is_the_mean_over_all_cases_in_per_cent() -> None:
    """What the parties sent as sums and counts, and who was left out."""
    model = tiny_model()
    total = sum_cases(evaluate_requests(model, tiny_requests()))
    record = MetricRecord()
    for name, value in total.sums.items():
        record[f"sum.{name}"] = value
        record[f"count.{name}"] = float(total.counts[name])
    assert read_sums({**record}) == total
    outcome = RoundOutcome([Refusal(7, "it was late")])
    found = summarise(record, outcome, 12.5)
    means = total.means()
    assert found.rewrite_acc == means["rewrite_acc"]
    assert found.score == means["score"]
    shown = {k: v for k, v in found.model_dump().items() if isinstance(v, float)}
    groups = {name: value for name, value in means.items() if name not in shown}
    assert found.groups == groups
    assert {**shown, **groups} == {**means, "held_out_acc": 12.5}
    assert [(r.node, r.reason) for r in found.refusals] == [(7, "it was late")]


def test_nothing_judged_is_nothing_reported() -> None:
    """No number is made up."""
    assert summarise(None, None, None) == RoundMetrics()


def test_a_metric_of_another_name_stands_among_the_groups() -> None:
    """A client of another version must not end the run with its names."""
    record = MetricRecord({"sum.refusals": 1.0, "count.refusals": 2.0})
    assert summarise(record, None, None).groups == {"refusals": 50.0}


def test_updates_keep_their_bits() -> None:
    """From the record that goes to the clients."""
    update = torch.randn(2, 3, dtype=torch.float64)
    found = to_delta(ArrayRecord({"h.1.weight": Array(update.numpy())}))
    assert list(found) == ["h.1.weight"]
    assert torch.equal(found["h.1.weight"], update)
