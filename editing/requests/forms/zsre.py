"""zsRE's form of edit requests, and WikiBigEdit's, which has other names for it."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import Field

from editing.base.errors import RequestError
from editing.base.settings import Settings
from editing.requests.forms.benchmarks import ask_in_form
from editing.requests.forms.easyedit import NewQuestion, ask, ask_pair
from editing.requests.forms.fields import (
    Fields,
    OptionalText,
    Text,
    check_fields,
    number,
)
from editing.requests.forms.subjects import place_subject, take_subject_out

ZsreTarget: TypeAlias = Literal["answers", "alt"]
"""What zsRE's records ask for: the true answer (MEMIT) or the made-up one (MEND)."""


class _Zsre(Settings):
    subject: Text
    src: Text
    answers: tuple[str, ...] = ()
    alt: str | None = None
    rephrase: OptionalText = None
    loc: OptionalText = None
    loc_ans: OptionalText = None
    portability: NewQuestion | None = None
    alternative_subject: object = None
    alter_subject_question: OptionalText = None
    inverse_question: OptionalText = Field(None, alias="inverse question")
    case_id: object = None
    pred: object = None
    cond: object = None


def from_zsre(
    record: Mapping[str, object], zsre_target: ZsreTarget = "answers"
) -> Fields:
    """MEND's split of zsRE (Mitchell et al., arXiv 2110.11309), read as MEMIT does.

    The prompt is the question ``src`` with the subject's first occurrence taken out.
    MEMIT and ROME edit in the first of ``answers``, the truth, and give
    ``<|endoftext|>`` for a true target, which none of their metrics reads; here there
    is none. MEND and EasyEdit edit in ``alt``, and the truth is the true target.
    ``loc`` becomes a question of locality, with the question mark that MEMIT adds.
    EasyEdit's further questions are of portability: ``alter_subject_question`` asks for
    what is edited in. ``New Question`` and ``inverse question``, whose answer is the
    subject, follow from ``alt``, so that they are asked only if it is edited in.

    Raises:
        RequestError: If `src` does not hold the subject, or a target is missing.
    """
    read = check_fields(_Zsre, record)
    wanted = {"answers": read.answers[:1], "alt": (read.alt,)}[zsre_target]
    if not wanted or wanted[0] is None or not wanted[0].strip():
        raise RequestError(
            f"`{zsre_target}` is empty or not there, and `zsre-target = "
            f'"{zsre_target}"` edits it in. Add it, or take the record out.'
        )
    truth = "".join(read.answers[:1]) if zsre_target == "alt" else ""
    prompt, subject = take_subject_out(read.src, read.subject, "src")
    return {
        **number(read.case_id),
        "prompt": prompt,
        "subject": subject,
        "target_new": wanted[0],
        "target_true": truth if truth.strip() else None,
        "paraphrase_prompts": (read.rephrase,) if read.rephrase else (),
        "locality": ask_pair("loc", _ask(read.loc), "loc_ans", read.loc_ans),
        "portability": (
            *ask(read.alter_subject_question, wanted[0]),
            *(_follow_alt(read) if zsre_target == "alt" else ()),
        ),
    }


def _follow_alt(read: _Zsre) -> tuple[Fields, ...]:
    """The questions whose answers follow from the made-up one."""
    new = (read.portability.asked,) if read.portability else ()
    return (*new, *ask(read.inverse_question, read.subject))


def _ask(text: str | None) -> str | None:
    return text if text is None or text.endswith("?") else f"{text}?"


class _WikiBigEdit(Settings):
    subject: OptionalText
    update: Text
    ans: Text
    rephrase: OptionalText = None
    personas: OptionalText = None
    loc: OptionalText = None
    loc_ans: OptionalText = None
    mhop: OptionalText = None
    mhop_ans: OptionalText = None
    relation_id: OptionalText = None
    case_id: object = None
    tag: object = None
    subject_id: object = None
    relation: object = None
    object_label: object = Field(None, alias="object")
    object_id: object = None


def from_wikibigedit(record: Mapping[str, object]) -> Fields:
    """WikiBigEdit (Thede et al., arXiv 2503.05683): zsRE's parts under other names.

    The prompt is the question ``update`` with the subject taken out, and the answer
    ``ans`` is edited in. ``rephrase`` and ``personas`` are paraphrases, ``loc`` is a
    question of locality and the question of two steps, ``mhop``, one of portability.
    All five are asked once more for the benchmark's own metrics. The record has no
    earlier answer, so there is no true target. If ``subject`` is ``""``, the request
    has none.
    """
    read = check_fields(_WikiBigEdit, record)
    return {
        **number(read.case_id),
        **place_subject(read.update, read.subject, "update"),
        "target_new": read.ans,
        "relation_id": read.relation_id,
        "paraphrase_prompts": tuple(filter(None, (read.rephrase, read.personas))),
        "locality": ask_pair("loc", read.loc, "loc_ans", read.loc_ans),
        "portability": ask_pair("mhop", read.mhop, "mhop_ans", read.mhop_ans),
        "benchmark_questions": (
            *ask_in_form("wikibigedit_update", read.update, read.ans),
            *ask_in_form("wikibigedit_rephrase", read.rephrase, read.ans),
            *ask_in_form("wikibigedit_persona", read.personas, read.ans),
            *ask_in_form("wikibigedit_multi_hop", read.mhop, read.mhop_ans),
            *ask_in_form("wikibigedit_locality", read.loc, read.loc_ans),
        ),
    }
