"""An estimate resumes after a kill to the last bit, with a bounded part in memory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils.generic import ModelOutput

import editing.covariance.sampled_text
from editing.covariance.estimation import (
    WINDOW_BATCHES,
    Checkpoints,
    KeyOverflowError,
    SummedMoments,
    UnfinishedError,
    sum_moments,
)
from editing.covariance.sampled_text import sample_documents
from editing.covariance.texts import Document, TextSource, open_text, text_of
from tests.editing.covariance.test_covariance import naive_moment
from tests.editing.models.test_activations import ROUNDING
from tests.laws import assert_same
from tests.tiny import LAYERS, WORDS, tiny_model

MODEL = tiny_model()
TEXTS = [" ".join((WORDS * 3)[number : 3 * number + 2]) for number in range(60)]
BATCH_TOKENS, EVERY = 100, 150


class Stop(Exception):
    """Stands for a kill; tests/sims/runs/test_covariance.py kills for good."""


def count(
    text: TextSource,
    file: Path | None = None,
    layers: tuple[int, ...] = LAYERS,
    limit: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    on_batch: Callable[[int], None] | None = None,
) -> SummedMoments:
    """Count a text, with a file for its state if one is named."""
    checkpoints = Checkpoints(file, EVERY) if file else None
    return sum_moments(MODEL, text, layers, limit, batch_tokens, checkpoints, on_batch)


def stop_at(
    text: TextSource, file: Path, tokens: int, limit: int | None = None
) -> None:
    """Begin a count, or go on with it, and stop it."""

    def stop(done: int) -> None:
        if done > tokens:
            raise Stop

    with pytest.raises(Stop):
        count(text, file, limit=limit, on_batch=stop)


def assert_same_bits(one: SummedMoments, other: SummedMoments) -> None:
    """Sums, number of tokens and digest."""
    assert one.sums.tokens == other.sums.tokens
    assert one.digest == other.digest
    for layer in LAYERS:
        assert torch.equal(one.sums.sums[layer], other.sums.sums[layer])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write the text."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXTS))
    return path


def test_a_count_is_the_naive_sum(file: Path) -> None:
    """Whatever its windows and batches."""
    whole = count(open_text(str(file), MODEL, ""))
    for layer in LAYERS:
        moment, tokens = naive_moment(TEXTS, layer)
        assert tokens == whole.sums.tokens
        assert_same(whole.sums.means()[layer], moment, ROUNDING)


@pytest.mark.parametrize("tokens", [0, 160, 500, 1000, 1700])
def test_wherever_it_stops_it_goes_on_to_the_same_bits(
    file: Path, tmp_path: Path, tokens: int
) -> None:
    """Before the first state, within windows and between them, twice, with a limit."""
    text, state = open_text(str(file), MODEL, ""), tmp_path / "a"
    whole = count(text, limit=1777)
    stop_at(text, state, tokens, limit=1777)
    stop_at(text, state, tokens, limit=1777)
    assert_same_bits(count(text, state, limit=1777), whole)
    assert whole.sums.tokens == 1777


def test_a_count_that_was_stopped_after_its_last_batch_is_whole(
    file: Path, tmp_path: Path
) -> None:
    """Nothing is counted twice."""
    text, state = open_text(str(file), MODEL, ""), tmp_path / "a"
    whole = sum_moments(MODEL, text, LAYERS, None, BATCH_TOKENS, Checkpoints(state, 1))
    told: list[int] = []
    again = sum_moments(
        MODEL, text, LAYERS, None, BATCH_TOKENS, Checkpoints(state, 1), told.append
    )
    assert told == []
    assert_same_bits(again, whole)


def test_a_model_s_own_text_goes_on_without_being_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is drawn from the window's first row on."""
    monkeypatch.setattr(editing.covariance.sampled_text, "LONGEST_SAMPLE", 8)
    text, state = open_text("self", MODEL, "", seed=5), tmp_path / "a"
    whole = count(text, limit=2500)
    stop_at(text, state, 1900, limit=2500)
    starts: list[int] = []

    def stream(start: int) -> Iterator[Document]:
        starts.append(start)
        return sample_documents(MODEL, 5, start)

    again = count(replace(text, stream=stream), state, limit=2500)
    assert_same_bits(again, whole)
    assert starts[0] >= 100
    assert whole.digest == ""


@pytest.mark.parametrize("place", ["before", "within", "end"])
def test_a_text_that_changed_is_refused(tmp_path: Path, place: str) -> None:
    """Whether before the window, in it, or by its end coming too soon."""
    state = tmp_path / "a"
    stop_at(text_of(TEXTS, "x"), state, 1500)
    changed = {
        "before": ["the", *TEXTS[1:]],
        "within": [*TEXTS[:35], "the", *TEXTS[36:]],
        "end": TEXTS[:20],
    }[place]
    before = state.read_bytes()
    with pytest.raises(UnfinishedError, match="another text: x has changed"):
        count(text_of(changed, "x"), state)
    assert state.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layers": LAYERS[:1]}, r"layers \(was \[1, 2\], now \[1\]\)"),
        ({"batch_tokens": 99}, r"batch-tokens \(was 100, now 99\)"),
        ({"limit": 2000}, r"tokens \(was None, now 2000\)"),
    ],
)
def test_other_options_are_refused_by_name(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    """With what they were and are."""
    stop_at(text_of(TEXTS, "x"), tmp_path / "a", 500)
    with pytest.raises(UnfinishedError, match=reason):
        count(text_of(TEXTS, "x"), tmp_path / "a", **options)


def test_another_model_or_text_is_refused_by_name(tmp_path: Path) -> None:
    """Also one that differs in precision alone."""
    stop_at(text_of(TEXTS, "x"), tmp_path / "a", 500)
    with pytest.raises(UnfinishedError, match=r"text \(was x, now y\)"):
        count(text_of(TEXTS, "y"), tmp_path / "a")
    other = tiny_model(dtype=torch.float32)
    with pytest.raises(UnfinishedError, match=r"dtype \(was float64, now.*model \("):
        sum_moments(
            other,
            text_of(TEXTS, "x"),
            LAYERS,
            None,
            BATCH_TOKENS,
            Checkpoints(tmp_path / "a"),
        )


def test_a_state_that_is_none_is_refused(tmp_path: Path) -> None:
    """Rather than begun again over it."""
    (tmp_path / "a").write_bytes(b"no state")
    with pytest.raises(UnfinishedError, match=r"cannot be read .*Remove the file"):
        count(text_of(TEXTS, "x"), tmp_path / "a")


@pytest.mark.parametrize("documents", [200, 2000])
def test_however_long_a_text_is_no_more_than_two_windows_of_it_are_held(
    documents: int,
) -> None:
    """Tokens that were read and are not counted yet never exceed that."""
    read, most = 0, 0

    def stream(start: int) -> Iterator[Document]:
        nonlocal read
        for _ in range(start, documents):
            read += 11
            yield (1,) * 11

    def compare(done: int) -> None:
        nonlocal most
        most = max(most, read - done)

    counted = count(TextSource("x", stream), on_batch=compare)
    assert counted.sums.tokens == read == 11 * documents
    assert most <= WINDOW_BATCHES * BATCH_TOKENS + 11


def test_batches_that_do_not_fit_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the sums stay the same to rounding."""
    whole, forward = count(text_of(TEXTS, "x")), MODEL.model.forward

    def small(
        input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool
    ) -> ModelOutput:
        if len(input_ids) > 2:
            raise MemoryError
        given: ModelOutput = forward(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache
        )
        return given

    monkeypatch.setattr(MODEL.model, "forward", small)
    halved = count(text_of(TEXTS, "x"))
    assert halved.sums.tokens == whole.sums.tokens
    for layer in LAYERS:
        assert_same(halved.sums.sums[layer], whole.sums.sums[layer], ROUNDING)


def test_blocks_after_the_last_layer_are_not_run() -> None:
    """And all layers share one pass."""
    runs: list[int] = []
    with ExitStack() as hooks:
        for number in range(MODEL.block_count):

            def note(*_: object, number: int = number) -> None:
                runs.append(number)

            hook = MODEL.block(number).register_forward_pre_hook(note)
            hooks.callback(hook.remove)
        count(text_of(TEXTS[:2], "x"))
    assert runs == [0, 1, 2]


@pytest.mark.parametrize(
    ("dtype", "wider", "growth"),
    [
        (torch.float16, torch.bfloat16, 6e4),
        (torch.float32, torch.float64, 3e38),
    ],
)
def test_keys_that_overflow_are_refused_by_layer_and_precision(
    tmp_path: Path, dtype: torch.dtype, wider: torch.dtype, growth: float
) -> None:
    """At the first batch, before a state is written; a wider precision holds them."""
    narrow, wide = tiny_model(dtype=dtype), tiny_model(dtype=wider)
    for model in (narrow, wide):
        model.model.get_parameter("transformer.h.1.mlp.c_fc.weight").data.mul_(growth)
    text, state = text_of(TEXTS, "x"), tmp_path / "a.unfinished"
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(KeyOverflowError, match=rf"of layer 1 overflow {name}: "):
        sum_moments(narrow, text, LAYERS, checkpoints=Checkpoints(state, 1))
    assert not state.exists()
    found = sum_moments(wide, text, (1,))
    assert bool(found.sums.sums[1].isfinite().all())
