"""MQuAKE's form of edit requests: several rewrites a case, and questions about all."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from editing.base.settings import Settings
from editing.requests.forms.benchmarks import ask_in_form
from editing.requests.forms.fields import (
    Answers,
    CaseName,
    Fields,
    OptionalText,
    Spellings,
    StrObject,
    Template,
    Text,
    check_fields,
    want_list,
)


class _Rewrite(Settings):
    prompt: Template
    subject: Text
    target_new: StrObject
    target_true: StrObject | None = None
    relation_id: str | None = None
    question: OptionalText = None
    prompt_full: object = None
    fact_new: object = None
    fact_new_uns: object = None
    triplets: object = Field(None, alias="unsfact_triplets_GPT")


class _Hop(Settings, extra="ignore"):
    question: Text
    answer: Text
    answer_alias: Spellings = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """What will do."""
        return (self.answer, *self.answer_alias)


_Hops = Annotated[
    tuple[_Hop, ...],
    BeforeValidator(want_list('[{"question": "...", "answer": "..."}]')),
]

REWRITES = 10
"""Case numbers that a record takes up, which is as many rewrites as it may have."""


class _Mquake(Settings):
    requested_rewrite: tuple[_Rewrite, ...] = Field(min_length=1, max_length=REWRITES)
    questions: Spellings = ()
    new_answer: Answers = ()
    new_answer_alias: Spellings = ()
    case_id: CaseName | None = None
    answer: object = None
    answer_alias: object = None
    single_hops: object = None
    new_single_hops: _Hops = ()
    orig: object = None


def from_mquake(record: Mapping[str, object], index: int = 0) -> tuple[Fields, ...]:
    """MQuAKE (Zhong et al., arXiv 2305.14795): one request a rewrite, in their order.

    A rewrite's own ``question`` is a paraphrase; AKEW's texts next to it (arXiv
    2402.18909) are read by no editor. The case's ``questions`` of several
    steps follow from all of its rewrites together; they are questions of portability of
    the last one, with ``new_answer`` or one of its aliases. The requests of a case
    share its number as `case_name`, and have numbers from ``REWRITES · index``.

    For the benchmark's own metrics each rewrite's ``question`` is asked once more, and
    with the last rewrite the questions of several steps and those of each step after
    the edits, ``new_single_hops``. An answer may be any of its aliases.
    """
    read = check_fields(_Mquake, record)
    answers = (*read.new_answer, *read.new_answer_alias)
    following = tuple(
        {"prompt": text, "answers": answers} for text in read.questions if answers
    )
    last = len(read.requested_rewrite) - 1
    name = str(index) if read.case_id is None else read.case_id
    return tuple(
        {
            "case_id": REWRITES * index + place,
            "case_name": name,
            "prompt": each.prompt,
            "subject": each.subject,
            "target_new": each.target_new,
            "target_true": each.target_true,
            "relation_id": each.relation_id,
            "paraphrase_prompts": (each.question,) if each.question else (),
            "portability": following if place == last else (),
            "benchmark_questions": (
                *_ask_edit(each, read.new_single_hops),
                *(_ask_case(read) if place == last else ()),
            ),
        }
        for place, each in enumerate(read.requested_rewrite)
    )


def _ask_edit(rewrite: _Rewrite, hops: tuple[_Hop, ...]) -> tuple[Fields, ...]:
    """Ask for a rewrite's object, by any name that the steps have for it."""
    steps = [each for each in hops if each.answer == rewrite.target_new]
    names = (rewrite.target_new, *(name for each in steps for name in each.answers))
    return ask_in_form("mquake_edit", rewrite.question, *dict.fromkeys(names))


def _ask_case(read: _Mquake) -> Iterator[Fields]:
    """Ask for each step after the edits, and all steps at once."""
    for hop in read.new_single_hops:
        yield from ask_in_form("mquake_instance", hop.question, *hop.answers)
    answers = (*read.new_answer, *read.new_answer_alias)
    for text in read.questions:
        yield from ask_in_form("mquake_multi_hop", text, *answers)
