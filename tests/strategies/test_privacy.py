"""What is a party's own is in no message."""

from collections.abc import Callable

import pytest
from flwr.serverapp.exception import AggregationError
from torch import Tensor

from tests.federation import Federation

Make = Callable[..., Federation]

PRIVATE_FIELDS = ("subject", "target_new", "target_true", "prompt")


@pytest.mark.parametrize("encoding", ["factors", "dense"])
def test_no_request_is_ever_in_a_message(federate: Make, encoding: str) -> None:
    """Neither from a party nor to one, under `global` least of all."""
    federation = federate(run={"encoding": encoding, "rounds": 2})
    for merge in ("collabedit", "global"):
        federation.run(merge, judge_unedited=True)
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
