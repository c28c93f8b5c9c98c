"""The part of a batch's forward pass that an optimised shift cannot change.

A shift at the subject's last token, after block ``L``, leaves every earlier position
and every block up to ``L`` as they are. So those are run once; a step runs the blocks
after ``L`` on the *window* of each row, its positions from the subject's last token on,
attending to the stored keys and values of the positions before.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedConfig

from editing.activations import hidden_state
from editing.architectures import EditableModel
from editing.prompts import PromptBatch


@dataclass(frozen=True, slots=True)
class FrozenPrefix:
    """What the blocks after ``L`` need of the rest of the pass.

    Attributes:
        hidden: Output of block ``L`` in each row's window.
        past: Attention keys and values of the positions before the window, by block;
            each ``rows × heads × past × d_head``, not all of a row's columns allowed.
        mask: Added to attention scores; ``rows × 1 × window × (past + window)``.
        positions: Place in the row of each column of the window.
        calls: Arguments that each block was called with, hidden state excluded.
    """

    hidden: Float[Tensor, "rows window d"]
    past: dict[int, tuple[Tensor, Tensor]]
    mask: Float[Tensor, "rows 1 window all"]
    positions: Int[Tensor, "rows window"]
    calls: dict[int, dict[str, Any]]

    def among(self, rows: Int[Tensor, " kept"]) -> "FrozenPrefix":
        """Keep some rows."""
        return FrozenPrefix(
            self.hidden[rows],
            {layer: (k[rows], v[rows]) for layer, (k, v) in self.past.items()},
            self.mask[rows],
            self.positions[rows],
            self.calls,
        )

    def shifted(self, shift: Float[Tensor, "rows d"]) -> Float[Tensor, "rows window d"]:
        """Add a shift at each row's subject's last token, the window's first column."""
        first = self.hidden[:, :1] + shift.unsqueeze(1)
        return torch.cat([first, self.hidden[:, 1:]], dim=1)

    def run(
        self,
        model: EditableModel,
        hidden: Float[Tensor, "rows window d"],
        early: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the blocks after ``L``; give the last output and block `early`'s."""
        read = hidden
        for layer, call in self.calls.items():
            arguments = call | self._window_arguments(call)
            hidden = hidden_state(model.block(layer)(hidden, **arguments))
            read = hidden if early is None or layer <= early else read
        return hidden, read

    def _window_arguments(self, call: dict[str, Any]) -> dict[str, Any]:
        """What speaks of columns, by its name, restricted to the window's."""
        own: dict[str, Any] = {
            name: _StoredPast(self.past)
            for name, value in call.items()
            if isinstance(value, Cache)
        }
        own |= {"attention_mask": self.mask, "use_cache": True}
        if call.get("position_ids") is not None:
            own["position_ids"] = self.positions
        if call.get("position_embeddings") is not None:
            own["position_embeddings"] = tuple(
                table.expand(len(self.positions), -1, -1).gather(
                    1, self.positions.unsqueeze(2).expand(-1, -1, table.shape[2])
                )
                for table in call["position_embeddings"]
            )
        return own


class _StoredPast:
    """What attention takes for a cache: it reads the past and stores nothing."""

    def __init__(self, past: dict[int, tuple[Tensor, Tensor]]) -> None:
        self._past = past

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        past_keys, past_values = self._past[layer_idx]
        return (
            torch.cat([past_keys, keys], dim=2),
            torch.cat([past_values, values], dim=2),
        )


class _PastOnly(DynamicCache):
    """Ends the pass once the last block's keys and values are stored.

    What that block would make of them is not needed.
    """

    def __init__(self, config: PreTrainedConfig, last: int | None) -> None:
        super().__init__(config=config)
        self._last = last

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *rest: object,
        **named: object,
    ) -> tuple[Tensor, Tensor]:
        kept = super().update(key_states, value_states, layer_idx, *rest, **named)
        if layer_idx == self._last:
            raise _Stored
        return kept


class _Stored(Exception):
    pass


@torch.no_grad()
def run_prefix(model: EditableModel, batch: PromptBatch, layer: int) -> FrozenPrefix:
    """Run a batch once and keep what the blocks after `layer` need."""
    later = range(layer + 1, model.block_count)
    calls: dict[int, dict[str, Any]] = {}
    outputs: dict[int, Tensor] = {}
    handles = [
        model.block(layer).register_forward_hook(
            lambda _, __, output: outputs.update({layer: hidden_state(output)})
        )
    ]
    for number in later:
        hook = _recorder(calls, number)
        block = model.block(number)
        handles.append(block.register_forward_pre_hook(hook, with_kwargs=True))
    cache = _PastOnly(model.model.config, last=max(later, default=None))
    try:
        model.model.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            past_key_values=cache,
            use_cache=True,
        )
    except _Stored:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return _cut_windows(batch, outputs[layer], cache, calls)


def _recorder(calls: dict[int, dict[str, Any]], number: int) -> Callable[..., None]:
    def record(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(block.forward).bind(*args, **kwargs)
        given = dict(bound.arguments)
        given |= given.pop("kwargs", {})
        given.pop(next(iter(bound.arguments)))
        calls[number] = given

    return record


def _cut_windows(
    batch: PromptBatch,
    hidden: Tensor,
    cache: DynamicCache,
    calls: dict[int, dict[str, Any]],
) -> FrozenPrefix:
    subjects, lengths = batch.subjects, batch.lengths
    width = int((lengths - subjects).max())
    steps = torch.arange(width, device=hidden.device)
    positions = (subjects.unsqueeze(1) + steps).clamp(max=hidden.shape[1] - 1)
    index = positions.unsqueeze(2).expand(-1, -1, hidden.shape[2])
    before = int(subjects.max())
    past = {number: _past_of(cache, number, before) for number in calls}
    mask = _window_mask(subjects, lengths, before, width, hidden.dtype)
    return FrozenPrefix(hidden.gather(1, index), past, mask, positions, calls)


def _past_of(cache: DynamicCache, number: int, before: int) -> tuple[Tensor, Tensor]:
    stored: Any = cache.layers[number]
    return stored.keys[:, :, :before], stored.values[:, :, :before]


def _window_mask(
    subjects: Int[Tensor, " rows"],
    lengths: Int[Tensor, " rows"],
    before: int,
    width: int,
    dtype: torch.dtype,
) -> Float[Tensor, "rows 1 window all"]:
    """Allow a row's own past and, in the window, causal columns that hold a token."""
    rows, device = len(subjects), subjects.device
    past = torch.arange(before, device=device) < subjects.view(-1, 1, 1)
    steps = torch.arange(width, device=device)
    causal = steps.view(1, 1, -1) <= steps.view(1, -1, 1)
    holds = steps.view(1, 1, -1) < (lengths - subjects).view(-1, 1, 1)
    allowed = torch.cat(
        [past.expand(rows, width, before), (causal & holds).expand(rows, width, width)],
        dim=2,
    )
    mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min).unsqueeze(1)
