"""The report says what the parties' numbers and the held-out facts come to."""

from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord

from editing.algebra.deltas import applied
from editing.algebra.influence import Influence
from editing.base.errors import InputError
from editing.evaluation.answers import measure_answers
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.generated_texts import add_texts
from editing.evaluation.metrics import MetricSums
from server.evaluation import (
    HeldOutFact,
    evaluate_held_out,
    measure_for_gate,
    read_held_out,
    summarise,
    to_delta,
)
from server.report.data import PartyWeight, RoundMetrics
from strategies.gate.decision import GateConfig
from strategies.rounds.exchange import Refusal
from strategies.rounds.state import RoundOutcome
from strategies.wire.messages import TargetsReply
from strategies.wire.metrics import EvaluationSums
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
    assert evaluate_held_out(model, facts, {}) == 75.0


def test_held_out_facts_are_evaluated_on_the_edited_model_and_it_is_given_back() -> (
    None
):
    """An update that turns the model round changes its answers."""
    model = tiny_model()
    fact = HeldOutFact(prompt=PROMPTS[0], answer=said_by(model, PROMPTS[0], words=1))
    name = model.weight_name(2)
    delta = {name: -2 * model.model.get_parameter(name).mT.clone()}
    before = model.fingerprint
    with applied(delta, model.model):
        other = said_by(model, PROMPTS[0], words=1)
    assert other != fact.answer
    assert evaluate_held_out(model, [fact], delta) == 0.0
    assert evaluate_held_out(model, [fact], {}) == 100.0
    assert tiny_model().fingerprint == before


def test_a_measure_is_of_facts_text_and_size(tmp_path: Path) -> None:
    """A perplexity is the exponential of the mean surprise at each further token."""
    model, (name, other) = tiny_model(), (tiny_model().weight_name(k) for k in (1, 2))
    facts = [HeldOutFact(prompt=p, answer=said_by(model, p, words=1)) for p in PROMPTS]
    lines = (*PROMPTS, "", "the drum")
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\nfar beyond")
    config = GateConfig(requests=3, text=str(tmp_path / "text.txt"))
    measure = measure_for_gate(model, facts, config, "")
    weights = [
        model.model.get_parameter(each).mT.clone().double() for each in (name, other)
    ]
    delta = {name: -2 * weights[0], other: 0.5 * weights[1]}
    found = measure(delta)
    with applied(delta, model.model):
        costs = []
        for text in PROMPTS:
            ids = torch.tensor(model.tokenizer(text)["input_ids"])[None]
            logits = model.model(input_ids=ids).logits[0, :-1].double()
            costs.append(-logits.log_softmax(-1)[range(ids.shape[1] - 1), ids[0, 1:]])
    assert found.perplexity == pytest.approx(
        torch.cat(costs).mean().exp().item(), rel=1e-5
    )
    assert found.update_ratio == pytest.approx(2.0)
    assert found.held_out == evaluate_held_out(model, facts, delta)
    assert measure({}).held_out == 100.0
    assert measure({}).update_ratio == 0.0


def test_what_a_model_cannot_compute_is_as_bad_as_can_be() -> None:
    """An update may be finite and what comes of it not."""
    model = tiny_model(dtype=torch.float32)
    name = model.weight_name(1)
    huge = torch.full_like(model.model.get_parameter(name).mT, 1e38).double()
    measure = measure_for_gate(
        model, [HeldOutFact(prompt="Ada", answer="harp")], GateConfig(requests=1), ""
    )
    assert measure({name: huge}).held_out == 0.0


def test_fewer_facts_than_the_gate_wants_are_refused() -> None:
    """With the setting, and how many there are."""
    with pytest.raises(InputError, match=r"`gate\.requests` wants 2 .* has 1"):
        measure_for_gate(
            tiny_model(),
            [HeldOutFact(prompt="a", answer="b")],
            GateConfig(requests=2),
            "",
        )


def test_all_edits_are_those_of_all_rounds_where_answers_were_generated() -> None:
    """One mean over all cases, and not over rounds, which differ in size."""
    model, requests = tiny_model(), tiny_requests()
    cases = evaluate_requests(model, requests)
    teacher = EvaluationSums({1: sum_cases(cases[:4]), 2: sum_cases(cases[4:])})
    assert summarise(teacher, None, None, 2).all_edits == {}
    cases = add_texts(cases, measure_answers(model, requests, EvaluationConfig()))
    both = EvaluationSums({1: sum_cases(cases[:4]), 2: sum_cases(cases[4:])})
    found = summarise(both, None, None, 2)
    means = sum_cases(cases).means() | {"evaluated": len(requests)}
    assert found.all_edits == pytest.approx(means)
    assert found.all_edits["rewrite_diff"] != pytest.approx(found.rewrite_diff)


@pytest.mark.parametrize(
    "text", ["no JSON", '{"prompt": "a"}', '[{"prompt": "a"}]', '[{"prompt": 1}]']
)
def test_a_file_of_other_things_is_refused_by_name(tmp_path: Path, text: str) -> None:
    """The file lies next to the model and may be anybody's."""
    file = tmp_path / "held_out.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"held_out\.json: wanted a JSON list"):
        read_held_out(file)
    with pytest.raises(InputError, match="missing"):
        read_held_out(tmp_path / "missing")


def test_a_summary_is_the_mean_over_all_cases_in_per_cent() -> None:
    """What the parties sent as sums and counts, and who was left out."""
    total = sum_cases(evaluate_requests(tiny_model(), tiny_requests()))
    outcome = RoundOutcome([Refusal(7, "it was late")])
    found = summarise(EvaluationSums({1: total}), outcome, 12.5, 1)
    means = total.means()
    assert found.rewrite_acc == means["rewrite_acc"]
    assert found.score == means["score"]
    shown = {k: v for k, v in found.model_dump().items() if isinstance(v, float)}
    groups = {name: value for name, value in means.items() if name not in shown}
    assert found.groups == groups
    assert {**shown, **groups} == {**means, "held_out_acc": 12.5}
    assert [(r.node, r.reason) for r in found.refusals] == [(7, "it was late")]


def evaluated_rounds() -> dict[int, list[dict[str, object]]]:
    """Evaluate requests of three rounds; there are none in the second."""
    cases = evaluate_requests(tiny_model(), tiny_requests())
    return {1: cases[:1], 3: cases[1:4], 4: cases[4:]}


def test_what_is_retained_is_the_mean_over_all_earlier_requests() -> None:
    """Each request counts once, however many came in its round."""
    rounds = evaluated_rounds()
    record = EvaluationSums(
        {number: sum_cases(cases) for number, cases in rounds.items()}
    )
    found = summarise(record, None, None, 4)
    means = sum_cases([*rounds[1], *rounds[3]]).means()
    assert found.retained is not None
    assert found.retained.rewrite_acc == pytest.approx(means["rewrite_acc"])
    assert found.retained.score == pytest.approx(means["score"])
    assert found.retained.neighborhood_diff == pytest.approx(means["neighborhood_diff"])
    assert found.rewrite_diff == sum_cases(rounds[4]).means()["rewrite_diff"]
    assert found.retained.rewrite_diff != pytest.approx(found.rewrite_diff)


def test_each_round_has_a_place_of_its_own_also_one_without_requests() -> None:
    """So that the place tells the round."""
    rounds = evaluated_rounds()
    record = EvaluationSums(
        {number: sum_cases(cases) for number, cases in rounds.items()}
    )
    found = summarise(record, None, None, 4).by_round
    assert [each.rewrite_diff for each in found] == [
        sum_cases(rounds.get(number, [])).means().get("rewrite_diff")
        for number in (1, 2, 3, 4)
    ]
    assert found[1] == RoundMetrics()


@pytest.mark.parametrize("number", [0, 1])
def test_before_and_after_the_first_round_its_requests_are_evaluated(
    number: int,
) -> None:
    """Nothing is earlier, so nothing can have been retained."""
    total = sum_cases(evaluated_rounds()[1])
    found = summarise(EvaluationSums({1: total}), None, None, number)
    assert found.rewrite_diff == total.means()["rewrite_diff"]
    assert found.retained is None
    assert len(found.by_round) == number


def test_a_round_without_requests_still_says_what_is_retained() -> None:
    """It has no metrics of its own."""
    total = sum_cases(evaluated_rounds()[1])
    found = summarise(EvaluationSums({1: total}), None, None, 2)
    assert found.rewrite_diff is None
    assert found.retained is not None
    assert found.retained.rewrite_diff == total.means()["rewrite_diff"]


def test_counts_are_taken_over_and_residuals_are_means() -> None:
    """Over the requests that were examined, which are not those that were edited."""
    targets = {
        5: TargetsReply(requests=4, known=2, residual_norm=20.0, residual_ratio=1.5),
        6: TargetsReply(requests=2, left_out=3, residual_norm=4.0, residual_ratio=0.5),
    }
    outcome = RoundOutcome(targets=targets, duplicates=4, conflicts=5)
    assert summarise(EvaluationSums(), outcome, None, 1) == RoundMetrics(
        requests=6,
        known=2,
        left_out=3,
        duplicates=4,
        conflicts=5,
        residual_norm=3.0,
        residual_ratio=0.25,
    )
    nothing = summarise(EvaluationSums(), RoundOutcome(), None, 1)
    assert (nothing.requests, nothing.residual_norm) == (0, None)


def test_a_party_is_shown_in_the_layer_in_which_it_weighs_most() -> None:
    """With its share of that layer's update."""
    influences = {
        1: {"a": Influence(2.0, 5.0), "b": Influence(1.0, 1.0)},
        2: {"a": Influence(3.0, 4.0)},
    }
    outcome = RoundOutcome(influences=influences)
    found = summarise(EvaluationSums(), outcome, None, 1).weights
    assert found == (
        PartyWeight(name="a", leverage=3.0, share=4.0, layer=2),
        PartyWeight(name="b", leverage=1.0, share=1.0, layer=1),
    )


def test_nothing_evaluated_is_nothing_reported() -> None:
    """No number is made up."""
    assert summarise(EvaluationSums(), None, None, 1) == RoundMetrics()


@pytest.mark.parametrize("name", ["refusals", "known", "by_round", "requests"])
def test_a_metric_of_another_name_stands_among_the_groups(name: str) -> None:
    """A client of another version must not end the run with its names."""
    record = EvaluationSums({1: MetricSums({name: 1.0}, {name: 2})})
    found = summarise(record, None, None, 1)
    assert found.groups == {name: 50.0}
    assert (found.refusals, found.known, found.requests) == ((), 0, None)


def test_updates_keep_their_bits() -> None:
    """From the record that goes to the clients."""
    update = torch.randn(2, 3, dtype=torch.float64)
    found = to_delta(ArrayRecord({"h.1.weight": Array(update.numpy())}))
    assert list(found) == ["h.1.weight"]
    assert torch.equal(found["h.1.weight"], update)
