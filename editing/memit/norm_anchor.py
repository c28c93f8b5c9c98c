"""Norm-anchor scaling: values that edits ask for, brought to one length.

A value is what the edited module writes at the subject's last token. Edits that ask for
ever longer values make the weights grow; all of one length do not (arXiv 2602.02543).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from editing.models.activations import Relay, read_activations
from editing.models.loading import EditableModel
from editing.models.token_rows import BARE, tokenize_prompts
from editing.requests.edit_request import EditRequest

LONGEST = 2.0
"""A value longer than so many times ``c`` is not written at all."""

OUTLIERS = 0.05
"""Share of the facts, those with the longest values, that ``c`` leaves out."""


@torch.no_grad()
def read_values(
    model: EditableModel,
    requests: Sequence[EditRequest],
    layer: int,
    relay: Relay | None = None,
) -> Float[Tensor, "n d_out"]:
    """Read outputs of a down-projection at the subject's last token of bare prompts.

    In single precision or, if that is finer, the model's.
    """
    rows = tokenize_prompts(model.tokenizer, [BARE], requests)
    found = read_activations(model, rows, key_layers=[layer], relay=relay)
    keys = found.keys[layer]
    projection = model.down_projection(layer)
    values: Tensor = projection(keys.to(projection.get_parameter("weight").device))
    return values.to(model.device, torch.promote_types(values.dtype, torch.float32))


def anchored_shift(
    shift: Float[Tensor, "n d_out"], values: Float[Tensor, "n d_out"], anchor: float
) -> Float[Tensor, "n d_out"]:
    """``δ' = c · v*/‖v*‖ − v`` with ``v* = v + δ``; 0 where ``‖v*‖ > 2c``.

    Args:
        shift: ``δ``.
        values: ``v``, on the model that the shifts are for.
        anchor: ``c``.
    """
    wanted = values + shift
    length = torch.linalg.vector_norm(wanted, dim=1, keepdim=True)
    scaled = anchor * wanted / length - values
    written = length <= LONGEST * anchor
    found: Tensor = scaled.where(written, torch.zeros_like(scaled))
    return found


def reference_norm(norms: Float[Tensor, " n"]) -> float:
    """Average the lengths of values, without the ``⌊n / 20⌋`` largest."""
    kept = len(norms) - int(OUTLIERS * len(norms))
    return float(norms.double().sort().values[:kept].mean())
