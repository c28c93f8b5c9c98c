"""Read what passes through a model's modules, and stop once it has been read."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from editing.models.loading import EditableModel
from editing.models.prefix_tree import PackBatch, run_packs
from editing.models.token_rows import PromptBatch, TokenRow


@dataclass(frozen=True, slots=True)
class Activations:
    """What was read at one position of each row.

    Attributes:
        keys: Input of the down-projection, by layer; each ``n × d_in``.
        hidden: Output of the block, by layer; each ``n × d_out``.
    """

    keys: dict[int, Float[Tensor, "n d_in"]]
    hidden: dict[int, Float[Tensor, "n d_out"]]


@dataclass(slots=True)
class BlockInputs:
    """Hidden states that enter a block, of every token of some batches.

    Attributes:
        layer: The block, not the first.
        parts: How many values the block before returns; 0 if a hidden state alone.
        states: By digest of a batch, ``batch × seq × d_model``.
    """

    layer: int
    parts: int = 0
    states: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relay:
    """What a pass takes over from an earlier one, and what it hands on.

    An edit of a block leaves what enters it as it was, so a pass on the edited model
    may begin there. It gives the same bits: a batch that is not among the inputs begins
    at the first block.

    Attributes:
        start: What enters the block at which passes begin; None begins at the first.
        kept: To be filled by the passes; None keeps nothing.
    """

    start: BlockInputs | None = None
    kept: BlockInputs | None = None


def read_activations(
    model: EditableModel,
    rows: Sequence[TokenRow],
    key_layers: Sequence[int] = (),
    hidden_layers: Sequence[int] = (),
    batch_tokens: int | None = None,
    relay: Relay | None = None,
) -> Activations:
    """Read keys and hidden states at each row's subject's last token.

    Rows are cut at that token: in a causal model, which loading makes sure of, later
    tokens change nothing before them. What rows have in common before it is run once
    (`editing.models.prefix_tree`), and nothing after the last module that is read.
    Results are in the order of `rows` and do not depend on how they are batched, to the
    rounding of the model's precision; they are on the device of the inputs, whatever
    devices the blocks are on.

    Args:
        model: The model as it is.
        rows: One row of the results each.
        key_layers: Blocks whose keys are read.
        hidden_layers: Blocks whose output is read.
        batch_tokens: As in `run_packs`.
        relay: Where passes begin, and what they keep.
    """
    ends = [row.ids[: row.subject + 1] for row in rows]

    def run(batch: PackBatch) -> tuple[list[int], Activations]:
        with _taking_part(model, batch, relay):
            found = _read_batch(model, batch, key_layers, hidden_layers)
        return list(batch.slots), found

    found = list(run_packs(model, ends, run, batch_tokens))
    back = torch.argsort(torch.tensor([row for part, _ in found for row in part]))
    parts = [part for _, part in found]
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
def block_outputs(blocks: dict[int, nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Collect the hidden state that each block gives while the block is open."""
    seen: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for layer, module in blocks.items():

            def keep(
                _: nn.Module,
                __: object,
                output: Tensor | tuple[Any, ...],
                layer: int = layer,
            ) -> None:
                seen[layer] = hidden_state(output).detach()

            hooks.callback(module.register_forward_hook(keep).remove)
        yield seen


@contextmanager
def stopping_after(module: nn.Module, *, before: bool = False) -> Iterator[None]:
    """Leave the block, quietly, once `module` has run, or is about to."""

    def stop(*_: object) -> None:
        raise _Read

    register = module.register_forward_hook
    handle = (module.register_forward_pre_hook if before else register)(stop)
    try:
        yield
    except _Read:
        pass
    finally:
        handle.remove()


class _Read(Exception):
    pass


@contextmanager
def _taking_part(
    model: EditableModel, batch: PackBatch, relay: Relay | None
) -> Iterator[None]:
    """Begin a batch's pass where a relay says, and keep what it asks for."""
    start, kept = (None, None) if relay is None else (relay.start, relay.kept)
    name = _digest(batch) if start or kept else ""
    with ExitStack() as stack:
        if start is not None and name in start.states:
            stack.enter_context(_starting_at(model, start, start.states[name]))
        if kept is not None:
            before = model.block(kept.layer - 1)

            def keep(
                _: nn.Module, __: object, output: Tensor | tuple[Any, ...]
            ) -> None:
                kept.parts = 0 if isinstance(output, Tensor) else len(output)
                kept.states[name] = hidden_state(output).detach().clone()

            stack.callback(before.register_forward_hook(keep).remove)
        yield


@contextmanager
def _starting_at(
    model: EditableModel, start: BlockInputs, states: Tensor
) -> Iterator[None]:
    """Have the blocks before give what enters the first one that runs."""

    def give(*_: object, **__: object) -> object:
        handed = states.to(model.device, copy=True)
        return (handed, *(start.parts - 1) * (None,)) if start.parts else handed

    blocks = [vars(model.block(number)) for number in range(start.layer)]
    own = [block.get("forward") for block in blocks]
    for block in blocks:
        block["forward"] = give
    try:
        yield
    finally:
        for block, forward in zip(blocks, own, strict=True):
            del block["forward"]
            if forward is not None:
                block["forward"] = forward


def _digest(batch: PackBatch) -> str:
    digest = hashlib.sha256()
    for name, table in sorted(batch.inputs.items()):
        plain = table.cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _read_batch(
    model: EditableModel,
    batch: PackBatch,
    key_layers: Sequence[int],
    hidden_layers: Sequence[int],
) -> Activations:
    projections = {layer: model.down_projection(layer) for layer in key_layers}
    blocks = {layer: model.block(layer) for layer in hidden_layers}
    last = max((*key_layers, *hidden_layers))
    end = blocks[last] if last in blocks else projections[last]
    with (
        module_inputs(projections) as keys,
        block_outputs(blocks) as hidden,
        stopping_after(end, before=last not in blocks),
    ):
        model.model(**batch.inputs, use_cache=False)
    places = [slots[-1] for slots in batch.slots.values()]
    return Activations(
        {layer: _at(places, each, model.device) for layer, each in keys.items()},
        {layer: _at(places, each, model.device) for layer, each in hidden.items()},
    )


def _at(
    places: list[int], states: Float[Tensor, "*tokens width"], device: torch.device
) -> Float[Tensor, "n width"]:
    """Pick tokens, whether the states are by rows or all in one, as in OPT."""
    return states.reshape(-1, states.shape[-1])[places].to(device)


def by_rows(
    states: Float[Tensor, "*tokens width"], batch: PromptBatch
) -> Float[Tensor, "batch seq width"]:
    """What a module was given, by rows; some families put all tokens in one (OPT)."""
    return states.view(*batch.input_ids.shape, states.shape[-1])
