"""CounterFact's form of edit requests, and what others' files add to it."""

from collections.abc import Mapping

from pydantic import Field

from editing.base.errors import RequestError
from editing.base.settings import Settings
from editing.requests.forms.easyedit import ask, read_new_question
from editing.requests.forms.fields import (
    Fields,
    OptionalText,
    StrObject,
    Text,
    check_fields,
    check_template,
    number,
)


class _Rewrite(Settings):
    subject: OptionalText
    prompt: Text
    target_new: StrObject
    target_true: StrObject | None = None
    relation_id: str | None = None


class _PublishedRewrite(_Rewrite):
    prompt_full: object = None
    question: object = None
    fact_new: object = None
    fact_new_uns: object = None
    triplets: object = Field(None, alias="unsfact_triplets_GPT")


class _CounterFact(Settings):
    requested_rewrite: _PublishedRewrite
    case_id: object = None
    pararel_idx: object = None
    paraphrase_prompts: tuple[Text, ...] = ()
    neighborhood_prompts: tuple[Text, ...] = ()
    attribute_prompts: tuple[Text, ...] = ()
    generation_prompts: tuple[Text, ...] = ()
    locality: object = ()
    portability: object = ()
    benchmark_questions: object = ()
    alternative_subject: Text | None = None
    case_name: object = None
    target_space: object = None


def from_counterfact(record: Mapping[str, object]) -> Fields:
    """CounterFact and MultiCounterFact (Meng et al., arXiv 2202.05262, 2210.07229).

    What a rewrite asks for is an object with ``str``; the number ``pararel_idx`` and
    the objects' ``id`` are read by no editor, and neither are AKEW's texts next to
    a rewrite (arXiv 2402.18909). Our own files in this form may have ``locality``,
    ``portability`` and ``benchmark_questions`` as well. EasyEdit's have a
    ``New Question``, or an ``alternative_subject``, which makes of the prompt a
    question of portability. If ``subject`` is ``""``, the request has none and the
    prompt is a finished text.
    """
    read = check_fields(_CounterFact, record)
    rewrite = read.requested_rewrite
    if rewrite.subject is not None or "{}" in rewrite.prompt:
        _check_place(rewrite.prompt)
    given = read.model_dump(
        include={*_CounterFact.model_fields}
        - {"requested_rewrite", "pararel_idx", "case_id", "alternative_subject"}
    )
    fields = {key: value for key, value in given.items() if value is not None}
    if isinstance(read.portability, Mapping):
        fields["portability"] = read_new_question(read.portability)
    if read.alternative_subject is not None:
        prompt = rewrite.prompt.replace("{}", read.alternative_subject)
        asked = ask(prompt, rewrite.target_new)
        fields["portability"] = _joined(fields["portability"], asked)
    return {
        **fields,
        **rewrite.model_dump(include={*_Rewrite.model_fields}, exclude_none=True),
        **number(read.case_id),
    }


def _check_place(prompt: str) -> None:
    """Refuse a prompt without one place for the subject, as a `RequestError`."""
    try:
        check_template(prompt)
    except ValueError as error:
        raise RequestError(f"`requested_rewrite.prompt`: {error}") from None


def _joined(questions: object, more: tuple[Fields, ...]) -> object:
    """Put questions after others; what is no list stays, to be refused as it is."""
    return [*questions, *more] if isinstance(questions, list | tuple) else questions
