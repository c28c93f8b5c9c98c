"""Sizes that are estimated from shapes are those of real runs."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
from flwr.app import Array, Message
from safetensors.torch import load, load_file

from editing.algebra.deltas import save_delta
from editing.covariance.files import save_covariance
from editing.editors.choice import EDITORS, EditorChoice
from editing.files.atomic import write_private
from editing.models.token_rows import tokenize_request
from server.checkpoints import Checkpoints, Measured, MergeProgress
from sims.sizes.estimate import (
    BYTES,
    JOB_BYTES,
    REPLY_BYTES,
    STATE_TOKENS,
    Estimate,
    EstimateOrder,
)
from sims.sizes.shapes import ModelShape, read_shape
from strategies.wire.messages import Phase
from tests.editing.editors.laws import draw_rounds, rounds_of
from tests.federation import Federation
from tests.laws import draw_prior

ROUND = "2"
"""The second round: by then nodes hold what they were sent in the first."""

SENT = {Phase.ANSWERS, Phase.TARGETS, Phase.STATISTICS, Phase.EVALUATE}

RUNS = [
    ("layerwise", "factors", "float32"),
    ("layerwise", "factors-float32", "float32"),
    ("layerwise", "dense", "float64"),
    ("frozen-uniform", "factors", "bfloat16"),
]


def sizes_of(message: Message) -> int:
    """Bytes of a message's arrays, without what says how to read them."""
    return sum(
        prod(array.shape) * width_of(array)
        for record in message.content.array_records.values()
        for array in record.values()
    )


def width_of(array: Array) -> int:
    """Bytes of a number; numpy's names have them in bits, or as ``<f4``."""
    return BYTES.get(array.dtype) or int(array.dtype[-1])


def by_node(messages: Iterable[Message], *, replies: bool) -> Mapping[int, list[int]]:
    """Sizes of what each node was sent in the round, or of what it replied."""
    found: dict[int, list[int]] = {}
    for message in messages:
        about = message.metadata
        own = bool(about.reply_to_message_id) == replies
        if own and about.group_id == ROUND and about.message_type in SENT:
            node = about.src_node_id if replies else about.dst_node_id
            found.setdefault(node, []).append(sizes_of(message))
    return found


@pytest.mark.parametrize(("schedule", "encoding", "dtype"), RUNS)
def test_arrays_of_a_round_are_as_large_as_estimated(
    federate: Callable[..., Federation],
    world: Path,
    schedule: str,
    encoding: str,
    dtype: str,
) -> None:
    """To the byte, each way and for each node; nor is any message larger."""
    federation = federate(
        model={"dtype": dtype},
        editing={"schedule": schedule},
        run={"rounds": 2, "encoding": encoding},
    )
    federation.run()
    order = {"parties": 3, "requests": 2, "schedule": schedule}
    found = Estimate(
        read_shape(str(world)),
        EstimateOrder.model_validate({**order, "encoding": encoding, "dtype": dtype}),
    )
    down = by_node(federation.messages, replies=False)
    up = by_node(federation.messages, replies=True)
    assert len(down) == len(up) == 3
    for sizes in down.values():
        assert len(sizes) == found.messages
        assert sum(sizes) == found.round_down - found.messages * JOB_BYTES
        assert max(sizes) == found.largest_down - JOB_BYTES
    for sizes in up.values():
        assert sum(sizes) == found.round_up - found.messages * REPLY_BYTES
        assert max(sizes) == found.largest_up - REPLY_BYTES


@pytest.mark.parametrize("name", ["alphaedit", "ultraedit", "stableedit"])
def test_what_another_editor_sends_and_keeps_is_about_as_large_as_estimated(
    federate: Callable[..., Federation], world: Path, tmp_path: Path, name: str
) -> None:
    """Within a tenth: answers differ in length. Moments go up, and down once pooled."""
    own = {
        "name": name,
        "settings": json.dumps({"threshold": 0.1} if name == "alphaedit" else {}),
    }
    federation = federate(editor=own, run={"rounds": 2}, model={"dtype": "float32"})
    strategy, _ = federation.run()
    lengths = answer_lengths(federation)
    order = {"parties": 3, "requests": 2, "rounds": 2, "editor": name}
    found = Estimate(
        read_shape(str(world)),
        EstimateOrder.model_validate(
            {**order, "answer_tokens": sum(lengths) / len(lengths)}
        ),
    )
    for replies, total, besides in (
        (False, found.round_down, JOB_BYTES),
        (True, found.round_up, REPLY_BYTES),
    ):
        sizes = [*by_node(federation.messages, replies=replies).values()]
        assert [len(each) for each in sizes] == [found.messages] * 3
        mean = sum(map(sum, sizes)) / 3
        assert mean == pytest.approx(total - found.messages * besides, rel=0.1)
        if not replies:
            assert max(map(max, sizes)) == found.largest_down - JOB_BYTES
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.keep("one", MergeProgress(strategy.state(), Measured()))
    kept = load_file(tmp_path / "one.safetensors").values()
    size = sum(each.nbytes for each in kept)
    assert size <= 1.1 * found.checkpoint
    if name != "alphaedit":  # it keeps a basis of some directions, and not of all
        assert size == pytest.approx(found.checkpoint, rel=0.1)


@pytest.mark.parametrize("name", EDITORS)
def test_an_editor_keeps_no_more_than_it_says(name: str) -> None:
    """Before the first round and after each; moments are counted apart."""
    editor = EditorChoice(name=name, settings=OWN.get(name, {})).build()
    text, rounds = draw_prior(1), draw_rounds((2, 3), 1)
    d_out, d_in = rounds[0].cross.shape
    for _, kept in rounds_of(editor, text, rounds):
        numbers = sum(each.numel() for each in kept.values())
        assert numbers <= type(editor).most_kept(d_out, d_in)
        assert bool(kept) == (name in {"alphaedit", "betaedit", "lyaplock"})
        if name == "lyaplock":
            assert numbers == d_out * d_in + 2


def answer_lengths(federation: Federation) -> list[int]:
    """Count the tokens of the answers of the second round."""
    model = federation.preparation.model
    asked = [each for own in federation.requests_of_parties(2) for each in own]
    return [len(tokenize_request(model.tokenizer, each)[1]) for each in asked]


def test_the_rest_of_a_message_is_about_as_large_as_estimated(
    federate: Callable[..., Federation],
) -> None:
    """A job and a reply are one or two kilobytes, whatever the model."""
    federation = federate()
    federation.run()
    for message in federation.messages:
        whole = sum(each.count_bytes() for each in message.content.values())
        rest = whole - sizes_of(message)
        assumed = REPLY_BYTES if message.metadata.reply_to_message_id else JOB_BYTES
        assert rest < 2.5 * assumed


@pytest.mark.parametrize("rounds", [1, 2])
def test_files_are_as_large_as_estimated(
    federate: Callable[..., Federation], world: Path, tmp_path: Path, rounds: int
) -> None:
    """Their tensors, to the byte; of one round there are no grams."""
    federation = federate(run={"rounds": rounds})
    strategy, _ = federation.run()
    order = EstimateOrder(
        parties=3, requests=2, rounds=rounds, dtype="float64", covariance="float64"
    )
    found = Estimate(read_shape(str(world)), order)
    save_covariance(federation.preparation.covariance, tmp_path / "covariance")
    save_delta(strategy.delta, tmp_path / "delta", {})
    checkpoints = Checkpoints(tmp_path / "checkpoints", {})
    checkpoints.keep("one", MergeProgress(strategy.state(), Measured()))
    sizes = {
        "covariance": found.covariance_file,
        "delta": found.delta_file,
        "checkpoints/one.safetensors": found.checkpoint,
    }
    for name, size in sizes.items():
        tensors = load_file(tmp_path / name)
        assert sum(each.nbytes for each in tensors.values()) == size


OWN: dict[str, dict[str, float]] = {
    "alphaedit": {"threshold": 1.0},
    "betaedit": {"threshold": 1.0, "renew_after": 3},
}
"""Thresholds that leave some directions free of what `draw_prior` draws."""

SHAPE = ModelShape("one", 1000, d_out=3, d_in=5, layers=(1, 2), blocks=4)
WIDE = ModelShape("wide", 1000, d_out=300, d_in=900, layers=(1, 2), blocks=4)


def test_figures_follow_their_formulas() -> None:
    """Written out once more with numbers."""
    found = Estimate(SHAPE, EstimateOrder(parties=4, requests=2))
    assert found.statistics == 8 * 2 * (5 + 3)
    assert found.update == 4 * 3 * 5
    assert (found.weights, found.messages) == (4000, 3)
    traffic = 4 * (2 * 128 + 3 * REPLY_BYTES + 2 * 60 + 3 * JOB_BYTES)
    assert found.round_traffic == traffic
    assert found.round_seconds == pytest.approx(8 * traffic / 1e9 + 3 * 6.1)
    assert found.waiting == 3 * (128 + REPLY_BYTES)
    assert found.server_disk == 4000 + 200 + 2 * 240 + 120 + found.waiting
    states = 2 * STATE_TOKENS * 3 * 4
    assert found.node_disk == 4000 + 2 * 60 + 2 * 3 * (4 + 4) + states


@pytest.mark.parametrize(
    ("rounds", "every", "evaluated"), [(1, 7, 1), (6, 1, 6), (6, 3, 2), (7, 3, 3)]
)
def test_rounds_without_an_evaluation_have_a_message_less(
    rounds: int, every: int, evaluated: int
) -> None:
    """On average over the rounds; the last is evaluated."""
    order = EstimateOrder(rounds=rounds, evaluate_every=every)
    messages = rounds * Estimate(SHAPE, order).messages
    assert messages == pytest.approx(2 * rounds + evaluated)


def test_a_party_keeps_as_many_hidden_states_as_estimated(
    federate: Callable[..., Federation], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two layers' exchanges; their number depends on prompts, so about."""
    kept: list[int] = []

    def keep(path: Path, data: bytes) -> None:
        if "states" in path.parts:
            kept.append(sum(each.nbytes for each in load(data).values()))
        write_private(path, data)

    monkeypatch.setattr("clients.storage.write_private", keep)
    federate().run()
    order = EstimateOrder(parties=3, requests=2, dtype="float64")
    found = Estimate(read_shape(str(world)), order)
    assert len(kept) == 3
    assert kept == pytest.approx([found.states] * 3, rel=0.3)
    order = order.model_copy(update={"schedule": "frozen-uniform"})
    assert Estimate(read_shape(str(world)), order).states == 0


def test_a_party_sends_no_more_rows_than_its_keys_are_wide() -> None:
    """However many requests it has; dense statistics do not depend on them."""
    few, many = (
        Estimate(SHAPE, EstimateOrder(requests=requests)) for requests in (5, 500)
    )
    assert few.statistics == many.statistics
    dense = Estimate(SHAPE, EstimateOrder(requests=7, encoding="dense"))
    assert dense.statistics == 8 * (15 + 15)
    single = Estimate(SHAPE, EstimateOrder(requests=5, encoding="factors-float32"))
    assert 2 * single.statistics == few.statistics


def test_karcher_holds_all_updates_and_regmean_grams_besides() -> None:
    """Next to one solve; only the first grows by a whole update a party."""
    few, many = (
        Estimate(WIDE, EstimateOrder(parties=count, requests=10)) for count in (3, 7)
    )
    own, gram, update = 8 * 10 * 1200, 8 * 900 * 900, 8 * 900 * 300
    more = many.server_memory_karcher - few.server_memory_karcher
    assert more == 4 * (own + update)
    assert many.server_memory_regmean - few.server_memory_regmean == 4 * own
    for found in (few, many):
        rest = found.server_standing + found.order.parties * own + found.largest_up
        updates = (found.order.parties + 4) * update
        assert found.server_memory_karcher - rest == gram + updates
        assert found.server_memory_regmean - rest == 5 * gram + 4 * update


def test_a_party_more_costs_its_rows_where_each_is_needed() -> None:
    """``n (d_in + d_out)`` numbers; of one with many rows, the sums of its products."""
    for requests, numbers in ((10, 10 * 1200), (500, 900 * 900 + 900 * 300)):
        ten, eleven = (
            Estimate(WIDE, EstimateOrder(parties=parties, requests=requests))
            for parties in (10, 11)
        )
        assert eleven.server_memory_each - ten.server_memory_each == 8 * numbers


def test_memory_for_a_sum_does_not_grow_once_rows_are_many() -> None:
    """They are then multiplied."""
    some, many, most = (
        Estimate(WIDE, EstimateOrder(parties=parties)) for parties in (2, 10, 1000)
    )
    assert some.server_memory < many.server_memory == most.server_memory


def test_further_rounds_remember_grams_and_what_they_began_with() -> None:
    """A square a layer and one more update; a second square while a third follows."""
    one, two, three, four = (
        Estimate(WIDE, EstimateOrder(rounds=rounds)) for rounds in (1, 2, 3, 4)
    )
    more = 2 * (8 * (900 * 900 + 900 * 300) + 4 * 900 * 300)
    assert two.server_memory - one.server_memory == more
    assert three.server_memory - two.server_memory == 2 * 8 * 900 * 900
    assert four.server_memory == three.server_memory


def test_updates_travel_as_factors_where_those_are_smaller() -> None:
    """Their rank is the number of all edits so far."""
    changes = {"encoding_down": "factors", "parties": 10}
    few, many = (
        Estimate(WIDE, EstimateOrder.model_validate({**changes, "requests": requests}))
        for requests in (3, 30)
    )
    assert few.update == 4 * 30 * 1200
    assert many.update == 4 * 300 * 900


def test_gpt_j_fits_in_45_gb_with_any_number_of_parties() -> None:
    """With published covariances, in one round; merges of each party add its rows."""
    shape = read_shape("gpt-j-6b")
    for parties in (1, 10, 100, 1000):
        found = Estimate(shape, EstimateOrder(parties=parties, requests=10))
        assert found.server_memory <= 45e9
        rows = 8 * parties * 10 * (4096 + 16_384)
        assert found.server_memory_each <= 45e9 + rows


def test_layers_that_travel_together_are_one_exchange() -> None:
    """The same bytes in a round, in larger messages."""
    alone = Estimate(SHAPE, EstimateOrder())
    together = Estimate(SHAPE, EstimateOrder(schedule="frozen-uniform"))
    assert (alone.messages, together.messages) == (3, 2)
    assert together.largest_down - JOB_BYTES == 2 * (alone.largest_down - JOB_BYTES)
    assert together.largest_up - REPLY_BYTES == 2 * (alone.largest_up - REPLY_BYTES)
    assert together.round_up + REPLY_BYTES == alone.round_up
    assert together.server_memory > alone.server_memory


def test_a_boundary_is_two_layers_in_two_exchanges() -> None:
    """Whatever lies between them, with targets at each."""
    deep = replace(SHAPE, layers=(1, 2, 3, 4, 5))
    ends = replace(SHAPE, layers=(1, 5))
    boundary = Estimate(deep, EstimateOrder(schedule="boundary"))
    layerwise = Estimate(ends, EstimateOrder())
    assert boundary.exchanges == 2
    assert boundary.round_up == layerwise.round_up
    assert boundary.server_memory == layerwise.server_memory
    assert boundary.targets == 2 * layerwise.targets
    one = Estimate(replace(SHAPE, layers=(1,)), EstimateOrder(schedule="boundary"))
    assert one.exchanges == 1
