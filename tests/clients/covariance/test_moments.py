"""A party sums over its own texts, and a simulation's parties over all of one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict  # type: ignore[import-untyped]
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from clients.covariance.moments import find_own_texts, share_of, sum_moments
from clients.settings import ClientConfig, read_client_config
from editing.algebra.second_moments import TextMoment
from editing.covariance.estimation import KeyOverflowError
from editing.covariance.texts import TextError, text_of
from editing.models.loading import EditableModel
from sims.runs.in_process import make_contexts
from strategies.wire.failures import read_failure
from strategies.wire.messages import Phase
from strategies.wire.moments import read_moments
from tests.clients.nodes import ask, job_of
from tests.federation import TEXT, Federation, settings_of
from tests.laws import assert_same
from tests.tiny import LAYERS, tiny_model

Make = Callable[..., Federation]

MODEL = tiny_model()


def model_with_spaces(begins: bool) -> EditableModel:
    """Make a model whose tokenizer counts spaces, and may put a token before a text."""
    inner = Tokenizer(WordLevel({"[UNK]": 0, "<s>": 1, "the": 2}, unk_token="[UNK]"))
    inner.pre_tokenizer = Split(" ", "isolated")
    if begins:
        inner.post_processor = TemplateProcessing("<s> $A", None, [("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")
    return replace(MODEL, tokenizer=tokenizer)


MODELS_WITH_SPACES = [model_with_spaces(begins) for begins in (False, True)]


def config_of(world: Path, party: int, parties: int, **node: str) -> ClientConfig:
    """Read the settings of one of several nodes."""
    flat = settings_of(world, parties={"count": parties})
    contexts = make_contexts(flat, parties, [node] * parties)
    return read_client_config(list(contexts.values())[party])


@given(documents=st.integers(0, 30), parties=st.integers(1, 12))
def test_shares_are_the_whole_text_in_order_and_even(
    documents: int, parties: int
) -> None:
    """Nothing is lost or given twice, and no share is larger by more than one."""
    texts = [f"text {number}" for number in range(documents)]
    source = text_of(texts, "texts")
    shares = [list(share_of(source, party, parties)) for party in range(parties)]
    assert [each for share in shares for each in share] == texts
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("parties", [1, 3, 8])
def test_parties_of_a_simulation_sum_over_the_run_s_text(
    world: Path, parties: int
) -> None:
    """Their sums add up to the whole text's, and some may have no text."""
    whole = sum_moments(MODEL, TEXT, LAYERS)
    parts = [
        sum_moments(
            MODEL, find_own_texts(MODEL, config_of(world, party, parties)), LAYERS
        )
        for party in range(parties)
    ]
    for layer in LAYERS:
        first, *rest = [part[layer] for part in parts if part]
        total = sum(rest, start=first)
        assert_same(total.total, whole[layer].total)
        assert total.tokens == whole[layer].tokens
        assert not total.single
    assert sum(not part for part in parts) == max(0, parties - len(TEXT))


def test_a_sum_is_over_every_token_of_every_text() -> None:
    """The definition: text by text and token by token, unpadded."""
    found = sum_moments(MODEL, TEXT, LAYERS)
    for layer in LAYERS:
        total, tokens = torch.zeros(24, 24, dtype=torch.float64), 0
        seen: list[torch.Tensor] = []
        handle = MODEL.down_projection(layer).register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0][0])
        )
        for text in TEXT:
            ids = torch.tensor([MODEL.tokenizer(text)["input_ids"]])
            with torch.no_grad():
                MODEL.model(input_ids=ids)
        handle.remove()
        for key in torch.cat(seen):
            total += torch.outer(key, key)
            tokens += 1
        assert_same(found[layer].total, total)
        assert found[layer] == TextMoment(found[layer].total, tokens)


def test_a_node_s_own_file_is_its_text(world: Path, tmp_path: Path) -> None:
    """Whole, in a simulation too; without one, a party with own requests has none."""
    file = tmp_path / "own.txt"
    file.write_text("\n".join(TEXT[:2]))
    for node in ({}, {"requests-path": "requests.json"}):
        config = config_of(world, 1, 3, **{"text-path": str(file), **node})
        assert list(find_own_texts(MODEL, config)) == list(TEXT[:2])
    without = config_of(world, 1, 3, **{"requests-path": "requests.json"})
    assert list(find_own_texts(MODEL, without)) == []
    stranger = config_of(world, 0, 3).model_copy(update={"party": -1})
    beyond = stranger.model_copy(update={"party": 3})
    assert list(find_own_texts(MODEL, stranger)) == []
    assert list(find_own_texts(MODEL, beyond)) == []


@pytest.mark.parametrize("texts", [[], [""], ["", "  ", "\t"]])
def test_of_no_text_nothing_is_summed(texts: list[str]) -> None:
    """A file of empty lines is none."""
    assert sum_moments(MODEL, texts, LAYERS) == {}


@pytest.mark.parametrize("begins", [False, True])
@settings(max_examples=15)
@example(texts=["", " ", "the map", "  ", "a b", ""], parties=3)
@given(
    texts=st.lists(
        st.sampled_from(["", " ", "  ", "\t", "the map", "a b"]), max_size=6
    ),
    parties=st.integers(1, 4),
)
def test_blank_lines_are_no_text_however_it_is_split(
    begins: bool, texts: list[str], parties: int
) -> None:
    """Parties' sums are those of one machine, and of the lines that are not blank."""
    model = MODELS_WITH_SPACES[begins]
    whole = sum_moments(model, iter(texts), LAYERS)
    lines = [text for text in texts if text.strip()]
    plain = sum_moments(model, lines, LAYERS)
    shares = (share_of(text_of(texts, "x"), party, parties) for party in range(parties))
    parts = [sum_moments(model, share, LAYERS) for share in shares]
    tokens = sum(len(model.tokenizer(line)["input_ids"]) for line in lines)
    for layer in LAYERS if lines else ():
        first, *rest = [part[layer] for part in parts if part]
        together = sum(rest, start=first)
        assert whole[layer].tokens == together.tokens == tokens
        assert_same(together.total, whole[layer].total)
        assert_same(plain[layer].total, whole[layer].total)
    assert lines or not any([whole, plain, *parts])


@pytest.mark.parametrize("rest", ["", "#text", "@train", "@train#text"])
def test_a_node_s_own_text_may_be_a_saved_folder(
    world: Path, tmp_path: Path, rest: str
) -> None:
    """With its split and field, as `prior.text` names them."""
    rows = Dataset.from_dict({"text": list(TEXT)})
    splits = DatasetDict({"train": rows, "test": rows.select([0])})
    splits.save_to_disk(str(tmp_path / "own"))
    config = config_of(world, 1, 3, **{"text-path": f"{tmp_path / 'own'}{rest}"})
    assert list(find_own_texts(MODEL, config)) == list(TEXT)


@pytest.mark.parametrize(
    "named",
    ["self", "hub:some/text", "/no/file", "/no/f#text", "/no/f@train"],
)
def test_text_from_elsewhere_is_nobody_s_own(world: Path, named: str) -> None:
    """What the model writes, or the hub holds, the server could have counted."""
    config = config_of(world, 1, 3, **{"text-path": named})
    with pytest.raises(TextError, match=r"`text-path`.*wanted a file"):
        list(find_own_texts(MODEL, config))


def test_a_node_sends_the_sum_of_the_layers_asked_for(
    federate: Make, tmp_path: Path
) -> None:
    """And only its class if its file cannot be read."""
    file = tmp_path / "own.txt"
    file.write_text("\n".join(TEXT[1:]))
    federation = federate(node_configs={1: {"text-path": str(file)}})
    content = job_of(federation, layers=(2,))
    found = read_moments(ask(federation, Phase.MOMENTS, content).content, {2: 24})
    expected = sum_moments(MODEL, TEXT[1:], (2,))[2]
    assert_same(found[2].total, expected.total)
    assert found[2].tokens == expected.tokens
    file.write_bytes(b"\xff\xfe\x00")
    reply = ask(federation, Phase.MOMENTS, content)
    assert read_failure(reply.content) == "texts that cannot be used"


def test_a_node_whose_keys_overflow_sends_no_sum(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class is that arithmetic failed, and not that requests did."""
    model = tiny_model(dtype=torch.float16)
    model.model.get_parameter("transformer.h.1.mlp.c_fc.weight").data.mul_(6e4)
    with pytest.raises(KeyOverflowError, match="overflow float16"):
        sum_moments(model, TEXT, LAYERS)
    federation = federate()
    content = job_of(federation, layers=LAYERS)
    monkeypatch.setattr(
        "clients.app.sum_moments", lambda _, *rest: sum_moments(model, *rest)
    )
    reply = ask(federation, Phase.MOMENTS, content)
    assert read_failure(reply.content) == "arithmetic that failed"
