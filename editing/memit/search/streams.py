"""What a block's MLP and its attention add to the hidden state, shifted together.

PMET (arXiv 2308.08742) optimises a shift of each at the last edited block, and writes
that of the MLP.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from editing.base.errors import InputError, ModelError
from editing.hyperparameters.config import Hyperparameters
from editing.models.activations import hidden_state
from editing.models.loading import EditableModel

Places = tuple[Tensor, Tensor]
"""Rows and columns."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The modules whose outputs are shifted.

    Attributes:
        layer: Their block.
        modules: The down-projection, then the attention.
    """

    layer: int
    modules: tuple[nn.Module, nn.Module]

    @contextmanager
    def shifted(
        self, places: Places, shift: Float[Tensor, "rows 2 d"] | None = None
    ) -> Iterator[list[Tensor]]:
        """Add shifts to the outputs at some places; yields what was there before.

        Args:
            places: One a row.
            shift: None adds nothing.
        """
        seen: list[Tensor] = [places[0]] * len(self.modules)
        with ExitStack() as hooks:
            for number, module in enumerate(self.modules):

                def change(
                    _: nn.Module,
                    __: object,
                    output: Tensor | tuple[Any, ...],
                    number: int = number,
                ) -> Tensor | tuple[Any, ...]:
                    states = hidden_state(output)
                    where = tuple(each.to(states.device) for each in places)
                    seen[number] = states[where].to(places[0].device)
                    if shift is None:
                        return output
                    added = shift[:, number].to(states)
                    changed = states.index_put(where, added, accumulate=True)
                    if isinstance(output, Tensor):
                        return changed
                    return (changed, *output[1:])

                hooks.callback(module.register_forward_hook(change).remove)
            yield seen


def find_streams(model: EditableModel, parameters: Hyperparameters) -> Streams:
    """Find the modules at the last edited layer.

    Raises:
        InputError: If no block is before it.
    """
    layer = parameters.layers[-1]
    if layer == 0:
        raise InputError(
            '`editing.target-of` = "streams": wanted a last layer with a block '
            "before it; `layers` ends with 0."
        )
    attention = find_attention(model, layer, parameters.attn_module_tmp)
    return Streams(layer, (model.down_projection(layer), attention))


def find_attention(model: EditableModel, layer: int, named: str | None) -> nn.Module:
    """Return a block's attention: as named, or the one part whose class says so.

    Raises:
        ModelError: If there is none, or more than one.
    """
    if named is not None:
        try:
            return model.model.get_submodule(named.format(layer))
        except AttributeError:
            raise ModelError(
                f"`attn_module_tmp` {named!r}: this model of type "
                f"`{model.model.config.model_type}` has no such module."
            ) from None
    parts = model.block(layer).children()
    found = [each for each in parts if "Attention" in type(each).__name__]
    if len(found) != 1:
        raise ModelError(
            f"Blocks of type `{type(model.block(layer)).__name__}` have {len(found)} "
            "parts that are attention; name the one with `attn_module_tmp`."
        )
    return found[0]
