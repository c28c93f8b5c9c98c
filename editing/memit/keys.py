"""Keys: inputs of an edited layer's down-projection at the subject's last token."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from editing.models.activations import Relay, read_activations
from editing.models.loading import EditableModel
from editing.models.token_rows import BARE, check_length, tokenize_prompts
from editing.requests.edit_request import EditRequest


def extract_keys(
    model: EditableModel,
    requests: Sequence[EditRequest],
    templates: Sequence[str],
    layers: Sequence[int],
    relay: Relay | None = None,
) -> dict[int, Float[Tensor, "n d_in"]]:
    """Read each request's key at each layer; averaged as read, returned in float64.

    ``k = ½ (k_bare + mean over context templates of k_template)``; with the bare
    template alone, ``k = k_bare`` (Meng et al. 2023, arXiv 2210.07229, §4.2 and its
    published code).

    Args:
        model: The current model, earlier layers' updates included.
        requests: One row of the result each, in this order.
        templates: Texts with one ``{}`` each, the bare one included.
        layers: Blocks whose down-projection is read.
        relay: As in `read_activations`.
    """
    contexts = (BARE, *contexts_of(templates))
    rows = tokenize_prompts(model.tokenizer, contexts, requests)
    for index, row in enumerate(rows):
        check_length(model, row, requests[index % len(requests)])
    found = read_activations(model, rows, key_layers=layers, relay=relay).keys
    return {layer: _average(found[layer], len(requests)) for layer in layers}


def contexts_of(templates: Sequence[str]) -> list[str]:
    """Return the templates that add text to the prompt."""
    return [template for template in templates if template != BARE]


def _average(keys: Tensor, count: int) -> Float[Tensor, "n d_in"]:
    by_template = keys.view(-1, count, keys.shape[-1])
    bare, others = by_template[0], by_template[1:]
    mean = bare if len(others) == 0 else (bare + others.mean(dim=0)) / 2
    return mean.double()
