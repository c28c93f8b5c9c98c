"""A text's perplexity and tasks on an edited model, which is lent and not changed."""

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch

from editing.algebra.deltas import applied
from editing.base.errors import InputError
from editing.evaluation.capability.config import CapabilityConfig
from editing.evaluation.capability.measure import (
    LARGEST,
    name_numbers,
    open_capability,
)
from tests.tiny import tiny_model

MODEL = tiny_model()
TEXT = "the employer of Dora Stone is Acme Works , said Ben . one day they found Oslo"
NAME = MODEL.weight_name(2)


def draw_update(scale: float) -> dict[str, torch.Tensor]:
    """Draw an update of one layer."""
    draw = torch.Generator().manual_seed(0)
    return {NAME: scale * torch.randn(*MODEL.widths(2), generator=draw).double()}


def naive_perplexity(tokens: int | None = None) -> float:
    """Take exp of the mean cost of each token but the first."""
    ids = torch.tensor([MODEL.tokenizer(TEXT)["input_ids"][:tokens]])
    scores = MODEL.model(input_ids=ids).logits[0].log_softmax(dim=-1)
    costs = [-scores[place, token].item() for place, token in enumerate(ids[0, 1:])]
    return math.exp(sum(costs) / len(costs))


def write_text(folder: Path) -> str:
    """Write the text, and name its file."""
    (folder / "text.txt").write_text(TEXT)
    return str(folder / "text.txt")


def test_perplexity_is_that_of_the_edited_model_and_it_is_given_back(
    tmp_path: Path,
) -> None:
    """By definition, unedited and edited, of all tokens and of the first ones."""
    config, before = CapabilityConfig(text=write_text(tmp_path)), MODEL.fingerprint
    measure, delta = open_capability(config, str(tmp_path)), draw_update(0.3)
    assert measure(MODEL, {})["perplexity"] == pytest.approx(naive_perplexity())
    found = measure(MODEL, delta)
    with applied(delta, MODEL.model):
        assert found == {"perplexity": pytest.approx(naive_perplexity())}
        few = open_capability(config.model_copy(update={"tokens": 6}), str(tmp_path))
        assert few(MODEL, {})["perplexity"] == pytest.approx(naive_perplexity(6))
    assert found != measure(MODEL, {})
    assert MODEL.fingerprint == before


def test_a_model_that_computes_no_numbers_is_as_bad_as_can_be(tmp_path: Path) -> None:
    """A finite number, which JSON can hold."""
    config = CapabilityConfig(text="embedded")
    write_text(tmp_path)
    measure = open_capability(config, str(tmp_path))
    assert measure(MODEL, draw_update(math.inf)) == {"perplexity": LARGEST}
    assert json.loads(json.dumps(LARGEST)) == LARGEST < math.inf


def test_another_text_or_length_is_another_metric(tmp_path: Path) -> None:
    """The id holds the text's digest, the tokens, the harness and the limit."""
    named = write_text(tmp_path)
    measure = open_capability(CapabilityConfig(text=named, tokens=6), str(tmp_path))
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    assert measure.digest == digest
    assert measure.define(["perplexity"]) == {
        "perplexity": f"perplexity.half-windows.v1.text-{digest[:12]}.tokens-6"
    }
    (tmp_path / "text.txt").write_text(f"{TEXT} .")
    other = open_capability(CapabilityConfig(text=named, tokens=6), str(tmp_path))
    assert other.define(["perplexity"]) != measure.define(["perplexity"])


def test_numbers_of_a_task_are_named_after_it_and_their_errors_left_out() -> None:
    """A filter follows the metric; what is no metric has no comma."""
    numbers = {
        "acc,none": 0.5,
        "acc_stderr,none": 0.1,
        "exact_match,first": 0.25,
        "sample_len": 9.0,
        "word_perplexity,none": math.inf,
    }
    assert name_numbers("quiz", numbers) == {
        "quiz.acc": 0.5,
        "quiz.exact_match.first": 0.25,
    }


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff\xfe", "cannot be read"), (b" \n", "is blank")]
)
def test_a_text_that_cannot_be_measured_is_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """By its setting and its file."""
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"`capability\.text` .*bad\.txt: {said}"):
        open_capability(CapabilityConfig(text=str(file)), str(tmp_path))
