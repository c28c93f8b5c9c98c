"""Names of modules that hyperparameter files give, held to a model's own."""

import re
from difflib import get_close_matches

from torch import nn

FORMER_HEADS = frozenset({"embed_out"})
"""Names that the vocabulary head had in the releases that published files are for."""

NEAREST = 3


def nearest_modules(model: nn.Module, name: str) -> str:
    """Say which names of a model are nearest to one that it does not have.

    Args:
        model: The model.
        name: A module's name, ``{}`` for the block's number where it has one.
    """
    own = {
        re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", each): None
        for each, _ in model.named_modules()
        if each
    }
    same_kind = [each for each in own if ("{}" in each) == ("{}" in name)]
    close = get_close_matches(name, same_kind, n=NEAREST, cutoff=0.3)
    if not close:
        return f"its modules begin with {', '.join(list(own)[:NEAREST])}"
    return f"the nearest that it has are {', '.join(close)}"
