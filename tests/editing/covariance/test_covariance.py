"""Laws of the covariance: the mean over tokens, and of which model it is."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from editing.covariance.covariance import (
    DEFAULT_TOKENS,
    MEMIT_TOKENS,
    Covariance,
    CovarianceError,
    Provenance,
    compute_covariance,
    default_tokens,
    with_ridge,
)
from editing.covariance.rank import RIDGE
from tests.editing.models.test_activations import ROUNDING
from tests.laws import assert_same
from tests.tiny import LAYERS, WORDS, tiny_model, tiny_model_of_tuples

MODEL = tiny_model()
TEXTS = [
    "the old map under the stairs .",
    "Ada Lovelace works for Acme .",
    "",
    " ".join(WORDS[:63] * 2 + WORDS[:5]),
    "day",
]


def naive_moment(texts: list[str], layer: int) -> tuple[Tensor, int]:
    """Average ``k kᵀ`` over tokens, one piece of a text at a time."""
    keys: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        keys.extend(args[0][0])

    handle = MODEL.down_projection(layer).register_forward_pre_hook(keep)
    for text in texts:
        ids = MODEL.tokenizer(text)["input_ids"]
        for start in range(0, len(ids), 64):
            MODEL.model(input_ids=torch.tensor([ids[start : start + 64]]))
    handle.remove()
    moment = torch.stack([torch.outer(key, key) for key in keys]).mean(dim=0)
    return moment, len(keys)


@pytest.fixture(scope="module")
def covariance() -> Covariance:
    """Compute one of two layers."""
    return compute_covariance(MODEL, TEXTS, LAYERS, "tiny texts")


@pytest.mark.parametrize("layer", LAYERS)
def test_the_streamed_mean_is_the_naive_one(covariance: Covariance, layer: int) -> None:
    """Texts longer than the context in pieces, empty ones not at all."""
    moment, tokens = naive_moment(TEXTS, layer)
    assert_same(covariance.moments[layer], moment, ROUNDING)
    assert covariance.moments[layer].dtype == torch.float64
    made = covariance.provenance
    assert made.fingerprint == MODEL.fingerprint
    assert (made.dataset, made.tokens, made.products) == (
        "tiny texts",
        tokens,
        "float64",
    )


@settings(max_examples=8)
@given(batch_tokens=st.integers(1, 400), order=st.permutations(range(5)))
def test_no_batch_and_no_order_changes_it(
    covariance: Covariance, batch_tokens: int, order: list[int]
) -> None:
    """Padding is not counted."""
    texts = [TEXTS[index] for index in order]
    other = compute_covariance(MODEL, texts, LAYERS, "tiny texts", batch_tokens)
    assert other.provenance.tokens == covariance.provenance.tokens
    for layer in LAYERS:
        assert_same(other.moments[layer], covariance.moments[layer], ROUNDING)


def test_sums_of_a_single_precision_model_are_in_double() -> None:
    """Products too: they equal those of the same keys in float64."""
    single = tiny_model(dtype=torch.float32)
    keys: list[Tensor] = []
    handle = single.down_projection(1).register_forward_pre_hook(
        lambda _, args: keys.append(args[0][0])
    )
    found = compute_covariance(single, [TEXTS[0]], [1], "one").moments[1]
    handle.remove()
    exact = keys[0].double()
    assert_same(found, exact.mT @ exact / len(exact), ROUNDING)


def test_blocks_may_return_tuples(covariance: Covariance) -> None:
    """The same moments."""
    other = compute_covariance(tiny_model_of_tuples(), TEXTS, LAYERS, "tiny texts")
    for layer in LAYERS:
        assert_same(other.moments[layer], covariance.moments[layer], ROUNDING)


def test_progress_counts_tokens(covariance: Covariance) -> None:
    """Up to all of them."""
    reported: list[int] = []
    compute_covariance(MODEL, TEXTS, LAYERS, "tiny texts", 64, reported.append)
    assert reported == sorted(set(reported))
    assert len(reported) > 1
    assert reported[-1] == covariance.provenance.tokens


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_token_is_an_error(texts: list[str]) -> None:
    """There is no mean of nothing."""
    with pytest.raises(CovarianceError, match="holds no token"):
        compute_covariance(MODEL, texts, LAYERS, "nothing")


@given(cut=st.integers(0, len(TEXTS)))
@settings(max_examples=5)
def test_the_covariance_of_two_texts_is_their_weighted_mean(
    covariance: Covariance, cut: int
) -> None:
    """By the number of their tokens; a text without tokens adds nothing."""
    parts = [part for part in (TEXTS[:cut], TEXTS[cut:]) if any(part)]
    found = [compute_covariance(MODEL, part, LAYERS, "a part") for part in parts]
    total = sum(each.provenance.tokens for each in found)
    assert total == covariance.provenance.tokens
    for layer in LAYERS:
        mean = torch.stack(
            [each.moments[layer] * each.provenance.tokens / total for each in found]
        ).sum(dim=0)
        assert_same(mean, covariance.moments[layer], ROUNDING)


def test_a_limit_is_met_to_the_token() -> None:
    """The last row is cut, and no text after it is read."""
    text = TEXTS[3].split()
    found = compute_covariance(MODEL, TEXTS[3:], LAYERS, "x", limit=70)
    moment, tokens = naive_moment([" ".join(text[:70])], 1)
    assert found.provenance.tokens == tokens == 70
    assert_same(found.moments[1], moment, ROUNDING)


def test_a_ridge_is_added_where_the_rank_is_not_full_and_named() -> None:
    """Eight tokens have rank eight; then the moment is positive definite."""
    bare = compute_covariance(MODEL, TEXTS[:1], LAYERS, "short")
    found = with_ridge(bare)
    for layer in LAYERS:
        moment, ridge = bare.moments[layer], found.provenance.ridges[layer]
        assert found.provenance.ranks[layer] == bare.provenance.tokens == 7
        assert ridge == RIDGE * float(moment.trace()) / 24 > 0
        eye = torch.eye(24, dtype=torch.float64)
        assert_same(found.moments[layer], moment + ridge * eye)
        assert float(torch.linalg.eigvalsh(found.moments[layer])[0]) > 0.99 * ridge


def test_neurons_that_never_fire_get_a_ridge_of_their_own() -> None:
    """No text makes a ReLU's rank full; what the others counted stays."""
    model, texts = tiny_model(), [" ".join(WORDS[start:]) for start in range(40)]
    model.model.get_submodule("transformer.h.1.mlp").register_module("act", nn.ReLU())
    model.model.get_parameter("transformer.h.1.mlp.c_fc.bias").data[[2, 5]] = -1e3
    bare = compute_covariance(model, texts, (1,), "long")
    found = with_ridge(bare)
    moment, ridge = bare.moments[1].clone(), found.provenance.ridges[1]
    assert found.provenance.ranks[1] == 22
    assert ridge == RIDGE * float(moment.trace()) / 24 > 0
    moment[[2, 5], [2, 5]] = ridge
    assert torch.equal(found.moments[1], moment)


def test_a_covariance_of_full_rank_is_left_to_the_last_bit(
    covariance: Covariance,
) -> None:
    """And says so."""
    found = with_ridge(covariance)
    assert found.provenance.ranks == dict.fromkeys(LAYERS, 24)
    assert found.provenance.ridges == dict.fromkeys(LAYERS, 0.0)
    for layer in LAYERS:
        assert torch.equal(found.moments[layer], covariance.moments[layer])


def test_default_tokens_are_few_and_more_than_twice_the_width() -> None:
    """0.3 % of MEMIT's, unless keys are very wide."""
    assert DEFAULT_TOKENS == 0.003 * MEMIT_TOKENS
    assert default_tokens(MODEL, LAYERS) == DEFAULT_TOKENS
    wide = tiny_model(inner=70_000, dtype=torch.bfloat16)
    assert default_tokens(wide, LAYERS) == 140_000


def test_a_covariance_of_this_model_passes(covariance: Covariance) -> None:
    """And so does one that does not say of which model it is."""
    covariance.check(tiny_model(), LAYERS)
    Covariance(covariance.moments, Provenance("", "wikipedia", 9)).check(MODEL, [1])


def test_a_covariance_of_another_model_is_refused(covariance: Covariance) -> None:
    """Even of the same shape; a file that names no precision may be of another."""
    other = tiny_model()
    next(other.model.parameters()).data.mul_(2)
    reason = r"another model \(finger.*this model's is"
    with pytest.raises(CovarianceError, match=reason):
        covariance.check(other, LAYERS)
    silent = replace(covariance.provenance, dtype="")
    with pytest.raises(CovarianceError, match=r"another model, or in another precis"):
        Covariance(covariance.moments, silent).check(other, LAYERS)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_covariance_of_another_precision_says_so(
    covariance: Covariance, name: str
) -> None:
    """The model may well be the same, and its weights are other numbers."""
    assert covariance.provenance.dtype == "float64"
    with pytest.raises(
        CovarianceError, match=rf"in float64; this run is in {name}"
    ) as e:
        covariance.check(tiny_model(dtype=getattr(torch, name)), LAYERS)
    assert f"`--dtype {name}`, or set `model.dtype` to float64" in str(e.value)
    assert "another model" not in str(e.value)


def test_a_missing_layer_is_refused(covariance: Covariance) -> None:
    """Say which there are."""
    with pytest.raises(CovarianceError, match=r"has layers \[1, 2\], and layer 3"):
        covariance.check(MODEL, [1, 3])


def test_another_width_is_refused(covariance: Covariance) -> None:
    """When the file does not say of which model it is."""
    unnamed = Covariance(covariance.moments, Provenance("", "wikipedia", 9))
    with pytest.raises(CovarianceError, match=r"layer 1 is 24 wide .* are 32 wide"):
        unnamed.check(tiny_model(inner=32), [1])
