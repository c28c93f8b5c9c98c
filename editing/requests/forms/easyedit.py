"""Questions that EasyEdit's files add to CounterFact, zsRE and its own short form.

They are of three kinds (Yao et al., arXiv 2305.13172, section 5): what follows from the
edit in one more step (``New Question``), the edited fact under another name of its
subject, and the fact asked backwards. All of them are questions of portability.
"""

from collections.abc import Mapping

from pydantic import Field

from editing.base.errors import RequestError
from editing.base.settings import Settings
from editing.requests.forms.fields import Answers, Fields, Text, check_fields


class NewQuestion(Settings):
    """One more step from the edit, as EasyEdit's ``portability`` has it.

    Attributes:
        prompt: ``New Question``, a finished text.
        answers: ``New Answer``, a text or several that will do.
        relation: ``Recalled Relation``, which nothing reads.
    """

    prompt: Text = Field(alias="New Question")
    answers: Answers = Field(alias="New Answer")
    relation: object = Field(None, alias="Recalled Relation")

    @property
    def asked(self) -> Fields:
        """The question by its plain names."""
        return {"prompt": self.prompt, "answers": self.answers}


class _Within(Settings):
    portability: NewQuestion


def read_new_question(portability: object) -> tuple[Fields, ...]:
    """Read what EasyEdit's ``portability`` holds; what is wrong is a `RequestError`."""
    return (check_fields(_Within, {"portability": portability}).portability.asked,)


def has_new_question(portability: object) -> bool:
    """Whether a record's ``portability`` is EasyEdit's, not KnowEdit's by kind."""
    names = {field.alias for field in NewQuestion.model_fields.values()}
    return isinstance(portability, Mapping) and bool(names & set(portability))


def ask(prompt: str | None, answer: str) -> tuple[Fields, ...]:
    """Make a question of a prompt, or none if there is no prompt."""
    return () if prompt is None else ({"prompt": prompt, "answers": (answer,)},)


def ask_pair(
    first: str, prompt: str | None, second: str, answer: str | None
) -> tuple[Fields, ...]:
    """Make a question of two fields that come together or not at all.

    Raises:
        RequestError: If one of them is missing.
    """
    if (prompt is None) != (answer is None):
        there, missing = (second, first) if prompt is None else (first, second)
        raise RequestError(f"`{missing}`: is missing or null next to `{there}`.")
    return () if answer is None else ask(prompt, answer)
