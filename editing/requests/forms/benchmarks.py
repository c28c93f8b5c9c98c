"""Questions of benchmarks with metrics of their own, as their programs ask them."""

from typing import Literal, TypeAlias, get_args

from editing.requests.forms.fields import Fields

TeacherForced: TypeAlias = Literal[
    "wikibigedit_update",
    "wikibigedit_rephrase",
    "wikibigedit_persona",
    "wikibigedit_multi_hop",
    "wikibigedit_locality",
]
Answered: TypeAlias = Literal[
    "mquake_edit", "mquake_instance", "mquake_multi_hop", "qaedit_locality"
]
TEACHER_FORCED: tuple[TeacherForced, ...] = get_args(TeacherForced)
"""Kinds whose answers are read token by token, given those before."""

ANSWERED: tuple[Answered, ...] = get_args(Answered)
"""Kinds that the model answers in its own words."""


def ask_in_form(
    kind: TeacherForced | Answered, question: str | None, *answers: str | None
) -> tuple[Fields, ...]:
    """Ask ``Q: question A:``; nothing without a question or an answer.

    WikiBigEdit's program and MQuAKE's put every question into this form.
    """
    given = tuple(each for each in answers if each is not None)
    if question is None or not given:
        return ()
    return ({"kind": kind, "prompt": f"Q: {question} A:", "answers": given},)
