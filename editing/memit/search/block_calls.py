"""What a model passes to its blocks, recorded so that they can be called again."""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from editing.models.activations import hidden_state
from editing.models.loading import EditableModel


@dataclass(slots=True)
class Recording:
    """A pass through a model.

    Attributes:
        outputs: Outputs of the requested block; one once it has run.
        calls: Arguments that each later block was called with, hidden state excluded.
    """

    outputs: list[Tensor] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)


@contextmanager
def recording(model: EditableModel, layer: int) -> Iterator[Recording]:
    """Record the output of block `layer` and the arguments of the later ones."""
    found = Recording()

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Any, ...]) -> None:
        found.outputs.append(hidden_state(output).to(model.device))

    with ExitStack() as hooks:
        hooks.callback(model.block(layer).register_forward_hook(keep).remove)
        for number in range(layer + 1, model.block_count):

            def record(
                block: nn.Module,
                args: tuple[Any, ...],
                kwargs: dict[str, Any],
                number: int = number,
            ) -> None:
                found.calls[number] = _arguments(block, args, kwargs)

            block = model.block(number)
            handle = block.register_forward_pre_hook(record, with_kwargs=True)
            hooks.callback(handle.remove)
        yield found


def _arguments(
    block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Arguments by name, without the first, which is the hidden state."""
    bound = inspect.signature(block.forward).bind(*args, **kwargs)
    given = dict(bound.arguments)
    given |= given.pop("kwargs", {})
    given.pop(next(iter(bound.arguments)))
    return given
