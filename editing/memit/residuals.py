"""Residuals: the share of the way from hidden state to target that a layer writes."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from editing.hyperparameters.config import Hyperparameters
from editing.memit.norm_anchor import read_values
from editing.models.activations import Relay, read_activations
from editing.models.loading import EditableModel
from editing.models.token_rows import BARE, tokenize_prompts
from editing.requests.edit_request import EditRequest


def read_hidden(
    model: EditableModel,
    requests: Sequence[EditRequest],
    layer: int,
    relay: Relay | None = None,
) -> Float[Tensor, "n d_out"]:
    """Read hidden states at the subject's last token of bare prompts, in float64."""
    rows = tokenize_prompts(model.tokenizer, [BARE], requests)
    found = read_activations(model, rows, hidden_layers=[layer], relay=relay)
    return found.hidden[layer].double()


def read_states(
    model: EditableModel,
    requests: Sequence[EditRequest],
    parameters: Hyperparameters,
    relay: Relay | None = None,
) -> Float[Tensor, "n d_out"]:
    """Read what targets are compared with, on the model as it is, in float64.

    It is the hidden state after the last edited block or, with targets of the streams,
    the edited module's output there.
    """
    layer = parameters.layers[-1]
    if parameters.target_of == "streams":
        return read_values(model, requests, layer, relay).double()
    return read_hidden(model, requests, layer, relay)


def compute_residuals(
    targets: Float[Tensor, "n d_out"], hidden: Float[Tensor, "n d_out"], share: float
) -> Float[Tensor, "n d_out"]:
    """``r = share · (z − h)`` (arXiv 2210.07229, equation 20)."""
    return share * (targets.double() - hidden.double())
