"""How a hypernetwork is trained; read without torch."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from editing.base.settings import Settings


class TrainingSettings(Settings):
    """How a hypernetwork is trained with all parties, in the place of editing.

    Attributes:
        steps: Steps of the optimizer; 0 edits as always. The requests of the parties'
            first round are trained on, with their paraphrases and neighbourhood
            prompts, and nothing is edited.
        share: The largest share of the requests that a step edits; each step has
            another, from a tenth of it on.
        rate: The learning rate of Adam at the first step; it falls linearly to 0.
        value_rate: ``η`` before training.
        ridge: ``e^λ`` before training.
        local_weight: ``w`` of what shall not change, in the loss.
        rank: Rank of a block.
        blocks: Number of blocks.
        seed: Draws the first tensors and the batches.
    """

    steps: NonNegativeInt = 0
    share: float = Field(default=0.1, gt=0, le=1)
    rate: PositiveFloat = 1e-3
    value_rate: PositiveFloat = 1e-3
    ridge: PositiveFloat = 1.0
    local_weight: NonNegativeFloat = 1.0
    rank: PositiveInt = 64
    blocks: PositiveInt = 2
    seed: NonNegativeInt = 0
