"""What is read of one edited layer at the answers' tokens."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AnswerPairs:
    """What is read of one layer; rows are answer tokens, request after request.

    Attributes:
        keys: Inputs of the down-projection at the positions that predict an answer
            token, in float64.
        gradients: Of the loss by the down-projection's output there, in float64.
    """

    keys: Float[Tensor, "n d_in"]
    gradients: Float[Tensor, "n d_out"]
