"""Sum the second moments of a model's keys over a text; resume after a stop."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editing.base.errors import InputError
from editing.covariance.sums import DOUBLE, SINGLE, MomentSums, product_precision
from editing.covariance.texts import TextSource
from editing.covariance.windows import Place, Window, batch_rows, read_windows
from editing.files.atomic import partial_file
from editing.files.text import explain_text_error, parse_json
from editing.models.activations import by_rows, module_inputs, stopping_after
from editing.models.batching import run_batches
from editing.models.loading import EditableModel
from editing.models.token_rows import TokenRow, pad_rows

BATCH_TOKENS = 4096
"""Padded tokens of one batch, by default."""

WINDOW_BATCHES = 8
"""Batches' worth of tokens in memory, so that rows of like length share a batch."""

CHECKPOINT_TOKENS = 25_000
"""Tokens between two checkpoints, by default."""


class UnfinishedError(InputError):
    """An unfinished estimate that cannot be resumed."""


class KeyOverflowError(InputError, ArithmeticError):
    """Keys that are not finite in the model's precision."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where the state of an estimate is written, and how often.

    Attributes:
        file: The file; the caller removes it once the result is saved.
        every: Tokens between two states.
    """

    file: Path
    every: int = CHECKPOINT_TOKENS

    def is_due(self, before: int, tokens: int) -> bool:
        """Return whether a batch that ends at `tokens` calls for a checkpoint."""
        return tokens // self.every > before // self.every


@dataclass(frozen=True, slots=True)
class SummedMoments:
    """Sums over a text.

    Attributes:
        sums: ``Σ k kᵀ`` of each layer, its upper half.
        digest: Digest of the text that was read, see `Window`.
        products: How precisely products were formed.
    """

    sums: MomentSums
    digest: str
    products: str


@dataclass(frozen=True, slots=True)
class _State:
    """An estimate that was stopped in the middle of a window."""

    sums: MomentSums
    begin: Place
    batches: int
    digest: str


def sum_moments(
    model: EditableModel,
    text: TextSource,
    layers: Sequence[int],
    limit: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    checkpoints: Checkpoints | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> SummedMoments:
    """Sum ``k kᵀ`` of all layers over a text, in one pass of the blocks up to the last.

    Text and options alone determine the batches, so that an estimate that was killed
    and resumed has the bits of one that was not, on the same machine with the same
    number of threads.

    Args:
        model: The model whose keys are summed.
        text: What is read, once.
        layers: The layers whose keys are summed.
        limit: Tokens after which to stop; None reads all.
        batch_tokens: Padded tokens of a batch, at most.
        checkpoints: Where to write the state; one that exists is resumed.
        on_batch: Called with the number of tokens done.
    """
    wanted = _describe(model, text, layers, limit, batch_tokens)
    state = _read_state(checkpoints, wanted, model.device)
    sums = state.sums if state else _begin(model, layers)
    digest = state.digest if state else ""
    for window, batch in _batches(model, text, limit, batch_tokens, state):
        rows = [window.rows[index] for index in batch.rows]
        before = sums.tokens
        for _, keys in run_batches(rows, len(rows), lambda r: _keys(model, r, layers)):
            sums.add(keys)
        _check_finite(sums, model.dtype)
        digest = window.digest
        if on_batch is not None:
            on_batch(sums.tokens)
        if checkpoints and checkpoints.is_due(before, sums.tokens):
            done = _State(sums, window.begin, batch.number + 1, digest)
            _write_state(checkpoints, wanted, done)
    exact = product_precision(model.device, model.dtype) == torch.float64
    return SummedMoments(sums, digest, DOUBLE if exact else SINGLE)


def _check_finite(sums: MomentSums, dtype: torch.dtype) -> None:
    """Refuse keys that overflowed, which their sums of squares show.

    Raises:
        KeyOverflowError: Naming the first layer, and what to try.
    """
    for layer, total in sorted(sums.sums.items()):
        if not bool(total.diagonal().isfinite().all()):
            name = str(dtype).removeprefix("torch.")
            raise KeyOverflowError(
                f"The keys of layer {layer} overflow {name}: their second moment is "
                "not finite. Load the model in float32 or bfloat16 (`model.dtype`, "
                "`--dtype`); if it is in one of them, are its weights whole?"
            )


@dataclass(frozen=True, slots=True)
class _Batch:
    number: int
    rows: list[int]


def _batches(
    model: EditableModel,
    text: TextSource,
    limit: int | None,
    batch_tokens: int,
    state: _State | None,
) -> Iterator[tuple[Window, _Batch]]:
    """Yield each batch that is left, with its window, if the text is unchanged."""
    begin = state.begin if state else None
    known = state
    size = WINDOW_BATCHES * batch_tokens
    for window in read_windows(model, text, size, limit, begin):
        if known is not None and window.digest != known.digest:
            raise _other_text(text)
        done = known.batches if known else 0
        known = None
        for number, rows in enumerate(batch_rows(window.rows, batch_tokens)):
            if number >= done:
                yield window, _Batch(number, rows)
    if known is not None:
        raise _other_text(text)


def _other_text(text: TextSource) -> UnfinishedError:
    return UnfinishedError(
        f"The unfinished estimate was started on another text: {text.name} has "
        "changed. Restore the text, or remove the .unfinished file to start again."
    )


def _keys(
    model: EditableModel, rows: Sequence[TokenRow], layers: Sequence[int]
) -> dict[int, Float[Tensor, "n d_in"]]:
    """Return the keys of every token of some rows, by layer."""
    batch = pad_rows(rows, model.device)
    projections = {layer: model.down_projection(layer) for layer in layers}
    end = stopping_after(projections[max(layers)], before=True)
    with torch.no_grad(), module_inputs(projections) as keys, end:
        model.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            use_cache=False,
        )
    held = batch.attention_mask.bool()
    whole = {layer: by_rows(keys[layer], batch) for layer in layers}
    return {layer: each[held.to(each.device)] for layer, each in whole.items()}


def _begin(model: EditableModel, layers: Sequence[int]) -> MomentSums:
    widths = {layer: model.widths(layer)[1] for layer in layers}
    return MomentSums.of_widths(widths, model.device)


def _describe(
    model: EditableModel,
    text: TextSource,
    layers: Sequence[int],
    limit: int | None,
    batch_tokens: int,
) -> dict[str, str]:
    """Return all that an estimate depends on and that is known before it starts."""
    return {
        "model": model.fingerprint,
        "tokenizer": model.tokenizer_fingerprint,
        "layers": str(sorted(layers)),
        "text": text.determined_by or text.name,
        "tokens": str(limit),
        "batch-tokens": str(batch_tokens),
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "sums": "upper halves",  # an estimate that began otherwise is not resumed
    }


def _write_state(
    checkpoints: Checkpoints, wanted: dict[str, str], state: _State
) -> None:
    tensors = {f"sum.{k}": v.cpu().contiguous() for k, v in state.sums.sums.items()}
    place = asdict(state.begin) | {
        "batches": state.batches,
        "digest": state.digest,
        "counted": state.sums.tokens,
    }
    metadata = {
        "of": json.dumps(wanted),
        "place": json.dumps(place),
    }
    file = checkpoints.file
    file.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(file) as partial:
        save_file(tensors, partial, metadata)


def _read_state(
    checkpoints: Checkpoints | None, wanted: dict[str, str], device: torch.device
) -> _State | None:
    """Read the state from the file; None if there is no file.

    Raises:
        UnfinishedError: If it cannot be read, or is of another estimate.
    """
    if checkpoints is None or not checkpoints.file.exists():
        return None
    try:
        with safe_open(checkpoints.file, framework="pt") as opened:
            held = opened.metadata()
            of, place = parse_json(held["of"]), parse_json(held["place"])
            if not isinstance(of, dict) or not isinstance(place, dict):
                raise ValueError("it names no estimate")
            of = {name: str(value) for name, value in of.items()}
            sums = {
                int(name.removeprefix("sum.")): _check_sum(opened.get_tensor(name))
                for name in opened.keys()  # noqa: SIM118 - safe_open is no mapping
            }
        counts = ("counted", "document", "piece", "tokens", "batches")
        counted, *begin, batches = (_check_count(place[each]) for each in counts)
        state = _State(
            MomentSums.resumed(sums, counted, device),
            Place(*begin),
            batches,
            str(place["digest"]),
        )
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise UnfinishedError(
            f"{checkpoints.file}: the state of the unfinished estimate cannot be read "
            f"({explain_text_error(error)}). Remove the file to start again."
        ) from None
    _check_same(of, wanted, checkpoints.file)
    return state


def _check_sum(total: Tensor) -> Tensor:
    """Refuse what is no sum of ``k kᵀ``.

    Raises:
        ValueError: If it is not square, or not in float64.
    """
    square = total.dim() == 2 and total.shape[0] == total.shape[1]
    if not square or total.dtype != torch.float64:
        raise ValueError(f"a sum is {tuple(total.shape)} in {total.dtype}")
    return total


def _check_count(value: object) -> int:
    """Refuse what is no count.

    Raises:
        ValueError: If it is no whole number, or negative.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"it counts {value!r:.40}")
    return value


def _check_same(of: dict[str, str], wanted: dict[str, str], file: Path) -> None:
    """Refuse to resume the estimate of something else.

    Raises:
        UnfinishedError: Naming what differs.
    """
    other = [
        f"{name} (was {_short(of.get(name))}, now {_short(wanted.get(name))})"
        for name in sorted(of.keys() | wanted.keys())
        if of.get(name) != wanted.get(name)
    ]
    if other:
        raise UnfinishedError(
            f"{file} is of another estimate; what differs: {'; '.join(other)}. "
            "Give the same options to resume, or remove the file to start again."
        )


def _short(value: str | None) -> str:
    shown = str(value)
    return shown if len(shown) <= 48 else f"{shown[:45]}…"
