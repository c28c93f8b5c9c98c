"""Laws of loading: weights are mapped from their files, and never written to them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from editing.algebra.deltas import applied
from editing.memit.keys import extract_keys
from editing.memit.residuals import read_hidden
from editing.models.loading import EditableModel, load_editable_model
from tests.tiny import TEMPLATES, WORDS, tiny_model, tiny_requests, tiny_tokenizer

MAPS = Path("/proc/self/smaps")
pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="needs Linux's /proc")

REQUESTS = tiny_requests(2)
WIDE = 512
"""Width of the model whose weights fill many pages of memory."""

MATRIX = 4 * WIDE * 4 * WIDE
"""Bytes of one of its down-projections."""

BLOCK = 12 * WIDE * WIDE * 4
"""Bytes of the matrices of one of its blocks."""


@dataclass(frozen=True)
class Mapping:
    """A part of this process's memory that stands for a file.

    Attributes:
        start: First address.
        end: Address after the last one.
        path: The file.
        resident: Bytes of it that were read or written.
        copied: Bytes that were written, and so are this process's own.
    """

    start: int
    end: int
    path: str
    resident: int
    copied: int


def mappings(folder: Path) -> list[Mapping]:
    """List what of a folder's files lies in memory."""
    found = []
    places: list[str] = []
    sizes: dict[str, int] = {}
    for line in MAPS.read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            places, sizes = [first, *rest], {}
            continue
        if rest[-1:] == ["kB"]:
            sizes[first] = 1024 * int(rest[0])
        if first == "VmFlags:" and places[-1].startswith(str(folder)):
            start, end = (int(each, 16) for each in places[0].split("-"))
            found.append(
                Mapping(start, end, places[-1], sizes["Rss:"], sizes["Anonymous:"])
            )
    return found


def is_mapped(tensor: Tensor, parts: list[Mapping]) -> bool:
    """Tell whether a tensor's values are a file's."""
    return any(part.start <= tensor.data_ptr() < part.end for part in parts)


def digests(folder: Path) -> dict[str, str]:
    """Digest every file of a folder."""
    files = (each for each in sorted(folder.rglob("*")) if each.is_file())
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in files}


def save(model: EditableModel, folder: Path, shards: str) -> Path:
    """Save a model in shards of some size, read-only."""
    model.model.save_pretrained(folder, max_shard_size=shards)
    model.tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o400)
    return folder


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model of four blocks whose matrices fill many pages, a shard a block."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=len(WORDS) + 1,
            n_positions=64,
            n_embd=WIDE,
            n_layer=4,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = GPT2LMHeadModel(config)
    folder = tmp_path_factory.mktemp("wide")
    model.save_pretrained(folder, max_shard_size=f"{BLOCK // 1000 + 500}KB")
    tiny_tokenizer().save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 3
    return folder


VARIANTS = (
    "gpt2",
    "gptj",
    "gpt_neox",
    "llama",
    "llama, tied and scaled",
    "opt, narrow",
    "gemma2",
    "phi3",
    "bloom",
    "gemma3",
)
"""Heads tied and apart, matrices kept either way round, models inside of models."""


@pytest.mark.parametrize("shards", ["1GB", "10KB"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_are_mapped_and_are_those_that_were_saved(
    variant: str, shards: str, tmp_path: Path
) -> None:
    """In one file or in several, with a head of its own or a tied one."""
    model = tiny_model(variant, torch.float32)
    folder = save(model, tmp_path, shards)
    loaded = load_editable_model(str(folder))
    parts = mappings(folder)
    named = loaded.model.named_parameters()
    assert [name for name, each in named if not is_mapped(each, parts)] == []
    assert loaded.fingerprint == model.fingerprint
    assert is_tied(loaded) == is_tied(model)


def is_tied(model: EditableModel) -> bool:
    """Tell whether the head's weights are those of the words."""
    head, words = (
        each.get_parameter("weight").data_ptr()
        for each in (
            model.model.get_output_embeddings(),
            model.model.get_input_embeddings(),
        )
    )
    return head == words


def test_weights_of_another_precision_are_turned_into_it(tmp_path: Path) -> None:
    """Then there is nothing to map, and each value is rounded once."""
    model = tiny_model("llama", torch.float32)
    folder = save(model, tmp_path, "10KB")
    loaded = load_editable_model(str(folder), "bfloat16")
    rounded = tiny_model("llama", torch.float32)
    nn.Module.to(rounded.model, torch.bfloat16)
    assert loaded.fingerprint == rounded.fingerprint
    parts = mappings(folder)
    assert not any(is_mapped(each, parts) for each in loaded.model.parameters())


def test_an_edit_never_reaches_the_file(tmp_path: Path) -> None:
    """Neither a temporary edit nor a lasting one; the next load has the old values."""
    folder = save(tiny_model("gpt2", torch.float32), tmp_path, "10KB")
    before = digests(folder)
    first = load_editable_model(str(folder))
    known = first.fingerprint
    update = {first.weight_name(1): torch.ones(first.widths(1))}
    with applied(update, first.model):
        edited = load_editable_model(str(folder))
        assert digests(folder) == before
    with torch.no_grad():
        for weight in first.model.parameters():
            weight.fill_(3.0)
    assert digests(folder) == before
    assert edited.fingerprint == known
    assert load_editable_model(str(folder)).fingerprint == known


def test_an_edit_copies_the_matrices_that_it_changes_and_no_other(wide: Path) -> None:
    """All others stay the file's, which processes share and the system may drop."""
    model = load_editable_model(str(wide))
    model.fingerprint  # noqa: B018 - reads all weights
    assert copied(wide) < MATRIX / 2
    update = {model.weight_name(1): torch.ones(model.widths(1))}
    with applied(update, model.model):
        assert MATRIX <= copied(wide) < 1.5 * MATRIX
    with applied(update, model.model):
        assert copied(wide) < 1.5 * MATRIX


def copied(folder: Path) -> int:
    """Bytes of a folder's files that are this process's own by now."""
    return sum(each.copied for each in mappings(folder))


def resident(folder: Path) -> int:
    """Bytes of a folder's files that this process has touched."""
    return sum(each.resident for each in mappings(folder))


def test_keys_and_residuals_read_no_weights_of_later_blocks(wide: Path) -> None:
    """Of a model whose fingerprint is known without reading it."""
    model = load_editable_model(str(wide))
    loaded = resident(wide)
    assert loaded < BLOCK / 4
    extract_keys(model, REQUESTS, TEMPLATES, [0])
    one = resident(wide)
    assert BLOCK / 2 < one < 1.5 * BLOCK
    read_hidden(model, REQUESTS, 1)
    two = resident(wide)
    assert 1.5 * BLOCK < two < 2.5 * BLOCK
    model.fingerprint  # noqa: B018 - reads all weights
    assert resident(wide) > 3.9 * BLOCK


class Poisoned(nn.Module):
    """A block that must not be run."""

    def forward(self, *_: object, **__: object) -> Tensor:
        """Fail."""
        raise AssertionError("a block was run that is not needed")


@pytest.mark.parametrize("family", ["gpt2", "gptj", "llama"])
@pytest.mark.parametrize("last", [0, 1, 2])
def test_blocks_after_the_last_one_needed_are_not_run(family: str, last: int) -> None:
    """They may be anything, and keys and hidden states are the same."""
    whole, cut = tiny_model(family), tiny_model(family)
    container, _, _ = cut.architecture.block.partition(".{}")
    blocks = cut.model.get_submodule(container)
    assert isinstance(blocks, nn.ModuleList)
    for number in range(last + 1, 4):
        blocks[number] = Poisoned()
    layers = list(range(last + 1))
    expected = extract_keys(whole, REQUESTS, TEMPLATES, layers)
    found = extract_keys(cut, REQUESTS, TEMPLATES, layers)
    assert all(torch.equal(found[layer], expected[layer]) for layer in layers)
    hidden = read_hidden(cut, REQUESTS, last)
    assert torch.equal(hidden, read_hidden(whole, REQUESTS, last))
