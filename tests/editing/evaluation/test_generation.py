"""Laws of generation: each text is what its prompt gives alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editing.evaluation.config import GenerationConfig
from editing.evaluation.generation import Sample, draw_tokens, generate
from editing.models.token_rows import tokenize_text
from tests.tiny import said_by, tiny_model

MODELS = {family: tiny_model(family) for family in ("gpt2", "gptj", "llama")}
MODEL = MODELS["gpt2"]
PROMPTS = ("Ada", "the employer of Dora Stone is", "one day , said Ben , they found")
CONFIG = GenerationConfig(top_k=5, max_tokens=20)


def samples(*names: str, family: str = "gpt2") -> list[Sample]:
    """Prompts of several lengths, each once for every name."""
    tokenizer = MODELS[family].tokenizer
    return [
        Sample(tokenize_text(tokenizer, prompt), f"{name}/{prompt}")
        for name in names
        for prompt in PROMPTS
    ]


def spaced(text: str) -> str:
    """Write a text as the tokenizer writes its tokens, without special ones."""
    ids = MODEL.tokenizer(text)["input_ids"]
    return str(MODEL.tokenizer.decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize("family", MODELS)
def test_greedy_text_is_the_likeliest_token_each_time(family: str) -> None:
    """Of prompts of several lengths together, without a cache in the definition."""
    model, config = MODELS[family], GenerationConfig(top_k=1, max_tokens=20)
    found = generate(model, samples("a", family=family), config)
    for text, prompt in zip(found, PROMPTS, strict=True):
        size = len(tokenize_text(model.tokenizer, prompt).ids)
        said = said_by(model, prompt, 20 - size)
        assert text.split() == spaced(f"{prompt} {said}").split()


@settings(max_examples=6)
@given(size=st.integers(1, 7), order=st.permutations(range(6)))
def test_a_text_does_not_depend_on_its_batch(size: int, order: list[int]) -> None:
    """Nor on its place."""
    asked = samples("a", "b")
    alone = [generate(MODEL, [sample], CONFIG)[0] for sample in asked]
    found = generate(MODEL, [asked[index] for index in order], CONFIG, size)
    assert found == [alone[index] for index in order]


def test_names_draw_and_nothing_else_does() -> None:
    """Equal names draw equally, other names otherwise, and no global seed matters."""
    first = generate(MODEL, samples("a"), CONFIG)
    torch.manual_seed(1)
    assert generate(MODEL, samples("a"), CONFIG) == first
    assert generate(MODEL, samples("b"), CONFIG) != first
    greedy = GenerationConfig(top_k=1, max_tokens=20)
    assert generate(MODEL, samples("a"), greedy) == generate(
        MODEL, samples("b"), greedy
    )


def test_drawn_text_is_that_of_one_token_at_a_time() -> None:
    """Each is among the five best, chosen by the row's own numbers."""
    (sample,) = samples("a")[1:2]
    (text,) = generate(MODEL, [sample], CONFIG)
    ids = list(sample.prompt.ids)
    words = MODEL.tokenizer.tokenize(text)[len(ids) :]
    ranks = []
    for word in words:
        scores = MODEL.model(input_ids=torch.tensor([ids])).logits[0, -1]
        token = MODEL.tokenizer.convert_tokens_to_ids(word)
        ranks.append(int((scores > scores[token]).sum()))
        ids.append(int(str(token)))
    assert max(ranks) < CONFIG.top_k
    assert max(ranks) > 0


def test_draws_are_in_proportion_among_the_best() -> None:
    """The unit interval is cut by the likelihoods, the best token first."""
    scores = torch.tensor([[0.0, 3.0, 1.0, 2.0]], dtype=torch.float64)
    draws = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    found = draw_tokens(scores.expand(1000, -1), draws, 3)
    shares = torch.tensor([3.0, 2.0, 1.0]).softmax(dim=0).tolist()
    for token, share in zip((1, 3, 2), shares, strict=True):
        assert (found == token).float().mean().item() == pytest.approx(share, abs=2e-3)
    assert draw_tokens(scores, torch.ones(1, dtype=torch.float64), 9).item() == 0


def test_a_prompt_that_is_long_enough_stays() -> None:
    """Next to others that are written on, and never beyond the model's context."""
    config = GenerationConfig(top_k=5, max_tokens=6)
    found = generate(MODEL, samples("a"), config)
    assert found[1:] == [spaced(prompt) for prompt in PROMPTS[1:]]
    assert len(MODEL.tokenizer.tokenize(found[0])) == 6
    counts: list[int] = []
    (text,) = generate(
        MODEL,
        samples("a")[:1],
        GenerationConfig(max_tokens=500),
        on_batch=counts.append,
    )
    words = MODEL.tokenizer.tokenize(text)
    assert MODEL.longest_input - 8 < len(words) <= MODEL.longest_input
    assert counts == [1]
