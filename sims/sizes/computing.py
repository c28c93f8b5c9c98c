"""How much a node computes, from shapes alone."""

from sims.sizes.shapes import ModelShape

TARGET_STEPS = 25
"""Steps of the search for a target; MEMIT's, of which many stop earlier."""

TARGET_TOKENS = 150
"""Tokens that a step computes anew: 21 contexts with seven tokens from the subject's
last to the answer's."""


def count_target_operations(shape: ModelShape, requests: int) -> float:
    """Count the floating-point operations of a node's targets, at most.

    Forward and backward take 6 operations a parameter and token, through the share of
    the parameters that lies above the last edited layer.

    Args:
        shape: The model.
        requests: How many requests the node has in a round.
    """
    above = 1 - (shape.layers[-1] + 1) / shape.blocks
    passes = requests * TARGET_STEPS * TARGET_TOKENS
    return 6.0 * passes * above * shape.parameters
