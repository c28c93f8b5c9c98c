"""Laws of context templates: repeatable, and each with one place for the prompt."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from editing.hyperparameters.config import EditingConfig
from editing.memit.context_templates import (
    LENGTH,
    OPENINGS,
    choose_templates,
    sample_templates,
)
from editing.models.loading import EditableModel, make_editable
from editing.models.token_rows import tokenize_prompt
from tests.editing.models.test_token_rows import closing_tokenizer
from tests.tiny import WORDS, tiny_model

MODEL = tiny_model()


def model_that_says_braces() -> EditableModel:
    """Put braces in the place of every second word."""
    words = [f"{word}{{}}" if number % 2 else "{" for number, word in enumerate(WORDS)]
    vocabulary = {"[UNK]": 0} | {
        f"{word}{number}": number for number, word in enumerate(words, start=1)
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return make_editable(tiny_model().model, fast)


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32))
def test_a_seed_gives_the_same_templates(seed: int) -> None:
    """Whatever the global generator's state, which it leaves alone."""
    first = sample_templates(MODEL, seed)
    torch.manual_seed(seed + 1)
    state = torch.get_rng_state()
    assert sample_templates(MODEL, seed) == first
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_differ() -> None:
    """Parties with different ones would not agree."""
    assert len({sample_templates(MODEL, seed) for seed in range(3)}) == 3


def test_templates_are_the_bare_one_and_one_for_each_opening() -> None:
    """A text of the model's, a full stop, and the prompt."""
    bare, *contexts = sample_templates(MODEL, 0)
    assert bare == "{}"
    assert len(contexts) == len(OPENINGS)
    for opening, context in zip(OPENINGS, contexts, strict=True):
        assert context.startswith(opening)
        assert context.endswith(". {}")
        text = context.removesuffix(". {}")
        assert len(MODEL.tokenizer(text)["input_ids"]) == LENGTH + 1


@pytest.mark.parametrize("seed", range(3))
def test_every_template_has_one_place_whatever_the_model_says(seed: int) -> None:
    """Braces of its own would be read as places."""
    model = model_that_says_braces()
    ids = list(range(1, 20))
    assert "{" in model.tokenizer.decode(ids)
    templates = sample_templates(model, seed)
    assert [each.count("{}") for each in templates] == [1] * len(templates)
    assert all(each.count("{") == each.count("}") == 1 for each in templates)


def test_samples_are_among_the_likeliest_tokens() -> None:
    """Five of them, and not always the first."""
    ranks = []
    for context in sample_templates(MODEL, 0)[1:]:
        ids = MODEL.tokenizer(context.removesuffix(". {}"))["input_ids"]
        scores = MODEL.model(input_ids=torch.tensor([ids])).logits[0]
        order = scores.argsort(dim=-1, descending=True).tolist()
        ranks += [order[i].index(ids[i + 1]) for i in range(len(ids) - 1)]
    assert set(ranks) == {0, 1, 2, 3, 4}


def test_a_special_first_token_stands_once_and_never_in_a_template() -> None:
    """Neither after the opening, nor between a template and its prompt."""
    tokenizer, larger = closing_tokenizer(), tiny_model().model
    larger.resize_token_embeddings(len(tokenizer))
    model = make_editable(larger, tokenizer)
    seen: list[list[int]] = []
    handle = model.model.register_forward_pre_hook(
        lambda _, __, named: seen.append(named["input_ids"][0].tolist()),
        with_kwargs=True,
    )
    _, *contexts = sample_templates(model, 0)
    handle.remove()
    first, last = (tokenizer.convert_tokens_to_ids(sign) for sign in ("<s>", "</s>"))
    assert all(ids[0] == first and ids.count(first) == 1 for ids in seen)
    assert all(last not in ids[:2] for ids in seen)
    for context in contexts:
        assert "<s>" not in context
        row = tokenize_prompt(model.tokenizer, context, "{} works for", "Ada Stone")
        assert row.ids[0] == first
        assert row.ids.count(first) == 1
        assert row.ids.count(last) == 0


def test_settings_go_before_the_models_own_and_those_before_samples(
    tmp_path: Path,
) -> None:
    """And the seed is that of the settings."""
    named = tmp_path / "named.json"
    named.write_text(json.dumps(["{}", "named {}"]), encoding="utf-8")
    own = tmp_path / "context_templates.json"
    config = EditingConfig(context_templates=named, context_seed=3)
    sampled = sample_templates(MODEL, 3)
    free = EditingConfig(context_seed=3)
    assert choose_templates(MODEL, free, tmp_path) == sampled
    assert choose_templates(MODEL, free, None) == sampled
    own.write_text(json.dumps(["own {}", "{}"]), encoding="utf-8")
    assert choose_templates(MODEL, free, tmp_path) == ("{}", "own {}")
    assert choose_templates(MODEL, config, tmp_path) == ("{}", "named {}")
