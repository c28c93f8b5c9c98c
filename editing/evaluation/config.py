"""What requests are evaluated by, in addition to ES, PS and NS prompts."""

from typing import Literal

from pydantic import PositiveInt

from editing.base.settings import Settings


class GenerationConfig(Settings):
    """How texts are drawn; the defaults are those of ROME and MEMIT.

    Attributes:
        top_k: How many of the most likely tokens are drawn from, in proportion; 1 is
            greedy.
        max_tokens: How long a text gets, its prompt counted.
    """

    top_k: PositiveInt = 5
    max_tokens: PositiveInt = 100


class EvaluationConfig(GenerationConfig):
    """What is measured on top of what every request is evaluated by.

    Attributes:
        every: After every how many rounds of a run requests are evaluated; 0 and the
            last always are. Reports leave out what is not measured.
        generation: Whether texts are written for a request's generation prompts, and
            their entropy measured.
        attribute_prompts: Whether prompts of other subjects that have the new object
            in truth are evaluated, as in ROME.
        generated_answers: When the model answers the rewrite prompt and the paraphrases
            in its own words, without the object and without its length: after the
            ``last`` round, in ``every`` evaluation, or ``never``.
        answer_tokens: The most tokens of such an answer.
        examples: Answered questions, as one text, that MQuAKE's questions are asked
            after, on a line of their own; without it they are asked alone.
    """

    every: PositiveInt = 1
    generation: bool = False
    attribute_prompts: bool = False
    generated_answers: Literal["last", "every", "never"] = "last"
    answer_tokens: PositiveInt = 32
    examples: str | None = None

    @property
    def asks_answers(self) -> bool:
        """Whether answers are generated in this evaluation; see `of_round`."""
        return self.generated_answers == "every"

    def of_round(self, *, last: bool) -> "EvaluationConfig":
        """Return what is measured after a round: ``last`` becomes one of the others."""
        if self.generated_answers != "last":
            return self
        return self.model_copy(
            update={"generated_answers": "every" if last else "never"}
        )
