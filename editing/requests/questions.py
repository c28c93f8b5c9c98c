"""Questions that evaluate an edit, with answers of their own."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from editing.base.settings import Settings
from editing.requests.forms.benchmarks import Answered, TeacherForced
from editing.requests.forms.fields import Text, want_list


class Question(Settings):
    """A prompt that evaluates an edit, with answers of its own.

    Attributes:
        prompt: A finished text.
        answers: What may follow it; any one of them will do.
    """

    prompt: Text
    answers: tuple[Text, ...] = Field(min_length=1)


Questions = Annotated[
    tuple[Question, ...],
    BeforeValidator(want_list('[{"prompt": "...", "answers": ["..."]}]')),
]


class BenchmarkQuestion(Question):
    """A question that a benchmark's own metric reads, as its program asks it.

    Attributes:
        kind: The benchmark, and what it asks about.
    """

    kind: TeacherForced | Answered


BenchmarkQuestions = Annotated[
    tuple[BenchmarkQuestion, ...],
    BeforeValidator(
        want_list('[{"kind": "mquake_edit", "prompt": "...", "answers": ["..."]}]')
    ),
]
