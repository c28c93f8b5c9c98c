"""Generation: continuations of many prompts at a time.

Rows are written column by column, as in ROME's and MEMIT's programs: a row that still
has a token of its prompt at a column keeps it, the others draw one. So no row is ever
padded inside, positions are counted from 0 in every row, and all rows end together.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from editing.evaluation.config import GenerationConfig
from editing.models.batching import run_batches
from editing.models.editable import check_finite
from editing.models.loading import EditableModel
from editing.models.token_rows import TokenRow


@dataclass(frozen=True, slots=True)
class Sample:
    """One text to be drawn.

    Attributes:
        prompt: What it begins with.
        name: Names the draw: equal names draw equally, whatever else is drawn.
    """

    prompt: TokenRow
    name: str


def generate(
    model: EditableModel,
    samples: Sequence[Sample],
    config: GenerationConfig,
    batch_size: int = 64,
    on_batch: Callable[[int], None] | None = None,
) -> list[str]:
    """Write texts, each with a generator of its own.

    A text does not depend on the batch that it is written in, but for rounding, which
    can change a draw at the boundary between two tokens. Nothing ends a text before
    its length; a prompt that is as long already stays as it is.

    Args:
        model: What writes.
        samples: What is written.
        config: How.
        batch_size: Texts that are written together, to begin with.
        on_batch: Called after each batch with the number of texts written.
    """
    length = min(config.max_tokens, model.longest_input)
    # What is greedy depends on the prompt alone.
    named = [
        replace(sample, name="") if config.top_k == 1 else sample for sample in samples
    ]
    written = {
        sample: sample.prompt.ids
        for sample in named
        if len(sample.prompt.ids) >= length
    }
    waiting = list(dict.fromkeys(sample for sample in named if sample not in written))
    waiting.sort(key=lambda sample: len(sample.prompt.ids))

    def run(batch: Sequence[Sample]) -> list[tuple[int, ...]]:
        return _write_batch(model, batch, length, config.top_k)

    for batch, rows in run_batches(waiting, batch_size, run):
        written.update(zip(batch, rows, strict=True))
        if on_batch is not None:
            on_batch(sum(sample in written for sample in named))
    texts = {sample: _clean(model, ids) for sample, ids in written.items()}
    return [texts[sample] for sample in named]


def _clean(model: EditableModel, ids: Sequence[int]) -> str:
    """Tokens as ROME and MEMIT write them: without special ones, in normal form."""
    text = model.tokenizer.decode(list(ids), skip_special_tokens=True)
    return unicodedata.normalize("NFKD", str(text)).replace("\n\n", " ")


def _write_batch(
    model: EditableModel, batch: Sequence[Sample], length: int, top_k: int
) -> list[tuple[int, ...]]:
    draws = torch.stack([_uniforms(each.name, length) for each in batch])
    draws = draws.to(model.device)

    def draw(scores: Float[Tensor, "batch vocab"], column: int) -> Tensor:
        return draw_tokens(scores, draws[:, column], top_k)

    prompts = [each.prompt.ids for each in batch]
    texts: list[list[int]] = write_columns(model, prompts, length, draw).tolist()
    return [tuple(row) for row in texts]


@torch.inference_mode()
def write_columns(
    model: EditableModel,
    prompts: Sequence[tuple[int, ...]],
    length: int,
    choose: Callable[[Float[Tensor, "batch vocab"], int], Int[Tensor, " batch"]],
    ends: Callable[[Int[Tensor, " batch"], int], bool] | None = None,
) -> Int[Tensor, "batch length"]:
    """Continue prompts together, column by column, up to a length.

    Attention's keys and values are kept from column to column. No row is padded before
    or within its text, so each token has the position that it has alone.

    Args:
        model: What writes.
        prompts: The beginnings, in tokens; none is longer than `length`.
        length: Of all rows.
        choose: Chooses a row's token from its scores, given the column.
        ends: Called with each column's tokens, those of prompts among them, and the
            column; whether the rest is not needed.

    Returns:
        The rows in tokens; 0 where nothing was written.
    """
    device = model.device
    sizes = [len(ids) for ids in prompts]
    known = torch.tensor(sizes, device=device)
    rows = [[*ids, *[0] * (length - len(ids))] for ids in prompts]
    texts = torch.tensor(rows, device=device)
    start, cache = 0, None
    for column in range(min(sizes), length):
        output = model.model.base_model(
            input_ids=texts[:, start:column], past_key_values=cache, use_cache=True
        )
        cache, start = output.past_key_values, column
        scores = model.head(output[0][:, -1])
        check_finite(scores.amax(dim=-1), "scores")
        written = choose(scores, column)
        texts[:, column] = torch.where(known > column, texts[:, column], written)
        if ends is not None and ends(texts[:, column], column):
            break
    return texts


def draw_tokens(
    scores: Float[Tensor, "batch vocab"], draws: Float[Tensor, " batch"], top_k: int
) -> Int[Tensor, " batch"]:
    """Draw a token of each row in proportion to the likelihoods of the ``top_k`` best.

    Args:
        scores: One row a text.
        draws: A number from 0 to 1 for each row, which decides.
        top_k: How many tokens are drawn from.
    """
    best = scores.topk(min(top_k, scores.shape[-1]), dim=-1)
    shares = best.values.double().softmax(dim=-1).cumsum(dim=-1)
    chosen = (shares[:, :-1] < draws.unsqueeze(1)).sum(dim=-1, keepdim=True)
    return best.indices.gather(1, chosen).squeeze(1)


def _uniforms(name: str, count: int) -> Float[Tensor, " count"]:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    # On the processor, so that every device draws alike.
    generator = torch.Generator().manual_seed(number % 2**63)
    return torch.rand(count, generator=generator, dtype=torch.float64)
