"""Read what passes through a model's modules, and stop once it has been read."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from editing.models.batching import run_batches
from editing.models.loading import EditableModel
from editing.models.token_rows import PromptBatch, TokenRow, order_by_length, pad_rows


@dataclass(frozen=True, slots=True)
class Activations:
    """What was read at one position of each row.

    Attributes:
        keys: Input of the down-projection, by layer; each ``n × d_in``.
        hidden: Output of the block, by layer; each ``n × d_out``.
    """

    keys: dict[int, Float[Tensor, "n d_in"]]
    hidden: dict[int, Float[Tensor, "n d_out"]]


def read_activations(
    model: EditableModel,
    rows: Sequence[TokenRow],
    key_layers: Sequence[int] = (),
    hidden_layers: Sequence[int] = (),
    batch_size: int = 256,
) -> Activations:
    """Read keys and hidden states at each row's subject's last token.

    Blocks after the last one asked for are not run. Results are in the order of `rows`
    and do not depend on how they are batched, to the rounding of the model's precision;
    they are on the device of the inputs, whatever devices the blocks are on.
    """

    def run(indices: Sequence[int]) -> Activations:
        batch = pad_rows([rows[index] for index in indices], model.device)
        return _read_batch(model, batch, key_layers, hidden_layers)

    order = order_by_length(rows)
    parts = [found for _, found in run_batches(order, batch_size, run)]
    back = torch.argsort(torch.tensor(order))
    return Activations(
        {k: torch.cat([part.keys[k] for part in parts])[back] for k in key_layers},
        {k: torch.cat([p.hidden[k] for p in parts])[back] for k in hidden_layers},
    )


def hidden_state(output: Tensor | tuple[Any, ...]) -> Tensor:
    """A block's hidden state, whether the block returns it alone or in a tuple."""
    return output if isinstance(output, Tensor) else output[0]


@contextmanager
def module_inputs(modules: dict[int, nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Collect the first input of each module while the block is open."""
    seen: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for layer, module in modules.items():

            def keep(
                _: nn.Module, args: tuple[Tensor, ...], layer: int = layer
            ) -> None:
                seen[layer] = args[0].detach()

            hooks.callback(module.register_forward_pre_hook(keep).remove)
        yield seen


@contextmanager
def stopping_after(module: nn.Module) -> Iterator[None]:
    """Leave the block, quietly, once `module` has run."""

    def stop(*_: object) -> None:
        raise _Read

    handle = module.register_forward_hook(stop)
    try:
        yield
    except _Read:
        pass
    finally:
        handle.remove()


class _Read(Exception):
    pass


@torch.no_grad()
def _read_batch(
    model: EditableModel,
    batch: PromptBatch,
    key_layers: Sequence[int],
    hidden_layers: Sequence[int],
) -> Activations:
    projections = {layer: model.down_projection(layer) for layer in key_layers}
    hidden: dict[int, Tensor] = {}
    with ExitStack() as hooks, module_inputs(projections) as keys:
        for layer in hidden_layers:

            def keep(
                _: nn.Module,
                __: object,
                output: Tensor | tuple[Any, ...],
                layer: int = layer,
            ) -> None:
                hidden[layer] = hidden_state(output)

            hook = model.block(layer).register_forward_hook(keep)
            hooks.callback(hook.remove)
        last = max((*key_layers, *hidden_layers))
        with stopping_after(model.block(last)):
            model.model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                use_cache=False,
            )
    return Activations(
        {
            layer: _subjects_of(by_rows(keys[layer], batch), batch)
            for layer in key_layers
        },
        {layer: _subjects_of(hidden[layer], batch) for layer in hidden_layers},
    )


def by_rows(
    states: Float[Tensor, "*tokens width"], batch: PromptBatch
) -> Float[Tensor, "batch seq width"]:
    """What a module was given, by rows; some families put all tokens in one (OPT)."""
    return states.view(*batch.input_ids.shape, states.shape[-1])


def _subjects_of(states: Tensor, batch: PromptBatch) -> Float[Tensor, "batch width"]:
    picked = at_positions(states, batch.subjects.to(states.device))
    return picked.to(batch.subjects.device)


def at_positions(
    states: Float[Tensor, "batch seq width"], positions: Int[Tensor, " batch"]
) -> Float[Tensor, "batch width"]:
    """Pick one position of each row."""
    rows = torch.arange(states.shape[0], device=states.device)
    return states[rows, positions]
