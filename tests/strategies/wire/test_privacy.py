"""What is a party's own is in no message."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.serverapp.exception import AggregationError
from torch import Tensor

from editing.evaluation.metrics import MetricSums
from editing.requests.edit_request import to_counterfact
from strategies.wire.messages import Phase
from strategies.wire.metrics import read_evaluation
from tests.clients.nodes import cases_of
from tests.federation import Federation, world_requests

Make = Callable[..., Federation]

PRIVATE_FIELDS = ("subject", "target_new", "target_true", "prompt")


@pytest.mark.parametrize("encoding", ["factors", "dense"])
def test_no_request_is_ever_in_a_message(federate: Make, encoding: str) -> None:
    """Neither from a party nor to one, under `global` least of all."""
    federation = federate(run={"encoding": encoding, "rounds": 2})
    for merge in ("collabedit", "global"):
        federation.run(merge, evaluate_unedited=True)
    said = federation.said()
    assert b"the old map" in said  # a context template: the search finds what is there
    for request in [*federation.requests(1), *federation.requests(2)]:
        texts = [str(getattr(request, field)) for field in PRIVATE_FIELDS]
        texts += request.paraphrase_prompts + request.neighborhood_prompts
        for text in texts:
            for part in text.split("{}"):
                assert len(part) < 5 or part.encode() not in said, part


def test_a_failure_of_a_party_reaches_the_server_as_one_of_the_known_words(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the exception says of paths, prompts and subjects stays at its node."""
    planted = "/home/secret/ada.json: 'the mother tongue of Ada Lovelace is' is French"

    def fail(*_: object, **__: object) -> Tensor:
        raise RuntimeError(planted)

    monkeypatch.setattr("clients.round_targets.compute_targets", fail)
    federation = federate()
    with pytest.raises(AggregationError) as caught:
        federation.run()
    said = federation.said() + str(caught.value).encode()
    assert b"an error of the program" in said
    for word in ("secret", "Ada ", "Lovelace", "mother", "French", "Runtime"):
        assert word.encode() not in said, word


def test_texts_that_a_model_writes_stay_with_the_party(
    federate: Make, tmp_path: Path
) -> None:
    """Their entropy alone is sent; the same run writes the same texts."""
    requests = [
        request.model_copy(
            update={"generation_prompts": (f"{request.subject} lives in",)}
        )
        for request in world_requests()
    ]
    source = tmp_path / "requests.json"
    source.write_text(json.dumps([to_counterfact(each) for each in requests]))
    tables: dict[str, Any] = {
        "requests": {"source": str(source)},
        "evaluation": {"generation": True, "max_tokens": 12},
    }
    federation = federate(**tables)
    federation.run()
    posts = [case["post"] for case in cases_of(federation)]
    texts = [text for post in posts for text in post["text"]]
    assert len(texts) == 6
    assert all("lives in" in text for text in texts)
    said = federation.said()
    for text in texts:
        assert text.partition("lives in")[2].strip().encode() not in said
    evaluated = [
        read_evaluation(reply.content).of_round(1)
        for reply in federation.replies(Phase.EVALUATE)
    ]
    total = sum(evaluated, MetricSums())
    assert total.counts["ngram_entropy"] == 6
    entropies = [post["ngram_entropy"] for post in posts]
    assert total.sums["ngram_entropy"] == pytest.approx(sum(entropies))
    again = federate(**tables)
    again.run()
    assert [case["post"] for case in cases_of(again)] == posts
