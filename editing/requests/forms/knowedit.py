"""KnowEdit's form of edit requests, and forms that are close to it."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from editing.base.settings import Settings
from editing.requests.forms.easyedit import (
    ask_pair,
    has_new_question,
    read_new_question,
)
from editing.requests.forms.fields import (
    Answers,
    Fields,
    Single,
    Spellings,
    Text,
    check_fields,
    number,
    want_list,
    want_object,
)
from editing.requests.forms.subjects import take_subject_out


class _Probe(Settings, extra="ignore"):
    prompt: Single
    ground_truth: Spellings


class _ListedProbe(Settings, extra="ignore"):
    prompt: Single
    answer: Spellings | None = None
    ground_truth: Spellings | None = None

    @model_validator(mode="after")
    def _check_answer(self) -> "_ListedProbe":
        if self.answer is None and self.ground_truth is None:
            raise ValueError("has no `answer`; wants a text, or a list of texts")
        return self


_Probes = Annotated[
    Mapping[str, tuple[_Probe, ...]],
    BeforeValidator(
        want_object(
            "by kind",
            '{"Reasoning": [{"prompt": "...", "ground_truth": "..."}]}',
        )
    ),
]
_ListedProbes = Annotated[
    tuple[_ListedProbe, ...],
    BeforeValidator(want_list('[{"prompt": "...", "answer": "..."}]')),
]


class _Edit(Settings):
    subject: Text
    prompt: Text
    target_new: Text
    target_old: Text | None = None
    ground_truth: Spellings = ()
    rephrase: Answers = ()
    rephrase_prompt: Answers = ()
    locality_prompt: Text | None = None
    locality_ground_truth: Single | None = None
    case_id: object = None
    id: object = None
    cond: object = None


class _KnowEdit(_Edit):
    portability: _Probes = Field(default_factory=dict)
    locality: _Probes = Field(default_factory=dict)

    def questions(self, field: str) -> tuple[Fields, ...]:
        """The probes of a field that have an answer."""
        return _questions(self.portability if field == "portability" else self.locality)


class _CKnowEdit(_Edit):
    portability: _ListedProbes = ()
    locality: _ListedProbes = ()

    def questions(self, field: str) -> tuple[Fields, ...]:
        """The probes of a field that have an answer."""
        probes = self.portability if field == "portability" else self.locality
        answered = [(each.prompt, each.answer or each.ground_truth) for each in probes]
        return tuple({"prompt": text, "answers": own} for text, own in answered if own)


class _WikiBio(Settings):
    concept: Text
    text: Text
    labels: Single
    portability: _Probes = Field(default_factory=dict)
    locality: _Probes = Field(default_factory=dict)
    case_id: object = None


def from_knowedit(record: Mapping[str, object]) -> Fields:
    """KnowEdit's parts wiki_recent, wiki_counterfact, ZsRE and WikiBio.

    (Zhang et al., arXiv 2401.01286; EasyEdit's short form of CounterFact, with
    ``locality_prompt`` and perhaps a ``New Question``, and CKnowEdit, arXiv 2409.05806,
    with lists of probes that have an ``answer``, too.) The prompt is a finished text,
    out of which the subject's first occurrence is taken. WikiBio calls subject, prompt
    and target ``concept``, ``text`` and ``labels``. Probes of every kind become
    questions; of an answer's spellings any one will do, and a probe without an answer
    is left out, as EasyEdit does. The first ``ground_truth``, or ``target_old``, is the
    true target.
    """
    if {"concept", "text", "labels"} & record.keys():
        return _from_wikibio(record)
    new = has_new_question(record.get("portability"))
    left = {key: record[key] for key in record if not (new and key == "portability")}
    listed = [isinstance(left.get(key), list) for key in ("locality", "portability")]
    read = check_fields(_CKnowEdit if any(listed) else _KnowEdit, left)
    assert isinstance(read, _CKnowEdit | _KnowEdit)
    prompt, subject = take_subject_out(read.prompt, read.subject, "prompt")
    flat = ask_pair(
        "locality_prompt",
        read.locality_prompt,
        "locality_ground_truth",
        read.locality_ground_truth,
    )
    asked = read_new_question(record["portability"]) if new else ()
    return {
        **number(read.case_id),
        "prompt": prompt,
        "subject": subject,
        "target_new": read.target_new,
        "target_true": read.ground_truth[0] if read.ground_truth else read.target_old,
        "paraphrase_prompts": (*read.rephrase, *read.rephrase_prompt),
        "locality": (*read.questions("locality"), *flat),
        "portability": (*asked, *read.questions("portability")),
    }


def _from_wikibio(record: Mapping[str, object]) -> Fields:
    read = check_fields(_WikiBio, record)
    prompt, subject = take_subject_out(read.text, read.concept, "text")
    return {
        **number(read.case_id),
        "prompt": prompt,
        "subject": subject,
        "target_new": read.labels,
        "locality": _questions(read.locality),
        "portability": _questions(read.portability),
    }


def _questions(probes: Mapping[str, tuple[_Probe, ...]]) -> tuple[Fields, ...]:
    return tuple(
        {"prompt": probe.prompt, "answers": probe.ground_truth}
        for kind in probes.values()
        for probe in kind
        if probe.ground_truth
    )
