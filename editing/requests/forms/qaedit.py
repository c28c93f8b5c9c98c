"""QAEdit's form of edit requests."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

from editing.base.settings import Settings
from editing.requests.forms.fields import (
    Fields,
    OptionalText,
    Text,
    check_fields,
    number,
    want_list,
)
from editing.requests.forms.subjects import place_subject


class _Probe(Settings):
    loc: Text
    loc_ans: Text


_Probes = Annotated[
    tuple[_Probe, ...],
    BeforeValidator(want_list('[{"loc": "...", "loc_ans": "..."}]')),
]


class _QaEdit(Settings):
    prompt: Text
    subject: OptionalText
    target: Text
    rephrase: OptionalText = None
    locality: _Probes = ()
    case_id: object = None
    id: object = None
    source: object = None


def from_qaedit(record: Mapping[str, object]) -> Fields:
    """QAEdit (Yang et al., arXiv 2502.11177): questions and their true answers.

    The subject's first occurrence is taken out of ``prompt`` and ``target`` is edited
    in, as it is spelled; ``rephrase`` is a paraphrase, and ``locality`` lists questions
    ``loc`` with answers ``loc_ans``, which the benchmark's own metric has answered
    freely. The record has no earlier answer. If ``subject`` is ``""``, the request has
    none.
    """
    read = check_fields(_QaEdit, record)
    asked = tuple(
        {"prompt": each.loc, "answers": (each.loc_ans,)} for each in read.locality
    )
    return {
        **number(read.case_id),
        **place_subject(read.prompt, read.subject, "prompt"),
        "target_new": read.target,
        "paraphrase_prompts": (read.rephrase,) if read.rephrase else (),
        "locality": asked,
        "benchmark_questions": tuple({**q, "kind": "qaedit_locality"} for q in asked),
    }
