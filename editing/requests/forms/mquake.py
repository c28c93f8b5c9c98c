"""MQuAKE's form of edit requests: several rewrites a case, and questions about all."""

from collections.abc import Mapping

from pydantic import Field

from editing.base.settings import Settings
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
    new_single_hops: object = None
    orig: object = None


def from_mquake(record: Mapping[str, object], index: int = 0) -> tuple[Fields, ...]:
    """MQuAKE (Zhong et al., arXiv 2305.14795): one request a rewrite, in their order.

    A rewrite's own ``question`` is a paraphrase; AKEW's texts next to it (arXiv
    2402.18909) are read by no editor. The case's ``questions`` of several
    steps follow from all of its rewrites together; they are questions of portability of
    the last one, with ``new_answer`` or one of its aliases. The requests of a case
    share its number as `case_name`, and have numbers from ``REWRITES · index``.
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
        }
        for place, each in enumerate(read.requested_rewrite)
    )
