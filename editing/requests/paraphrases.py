"""Extra phrasings of a fact, so that its edit holds in more than one wording."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from editing.base.errors import InputError
from editing.files.text import read_json_object
from editing.requests.edit_request import EditRequest
from editing.requests.questions import BenchmarkQuestion

ANY_RELATION = "*"
"""The key of templates that fit every relation."""


def phrase(
    request: EditRequest,
    count: int,
    templates: Mapping[str, Sequence[str]] | None = None,
) -> list[EditRequest]:
    """Ask for one fact in several wordings: the request itself, then its copies.

    Copies ask for the same target under the same case number and carry no prompts that
    evaluate it. Where there are fewer wordings than wanted, all of them are taken.

    Args:
        request: What is asked for.
        count: How many copies are wanted at most.
        templates: Prompts by relation, those of `ANY_RELATION` after a relation's own.
            Without it the request's own paraphrases are used, and these can then no
            longer show whether the edit generalizes (`unedited_paraphrases`).

    Raises:
        InputError: If the count is negative.
    """
    if count < 0:
        raise InputError(f"At least 0 extra phrasings were wanted, got {count}.")
    own = templates is None or not request.subject
    found = _own(request) if own else _listed(request, templates or {})
    prompts = [each for each in dict.fromkeys(found) if each != request.prompt]
    return [request, *(_reword(request, prompt) for prompt in prompts[:count])]


def unedited_paraphrases(
    request: EditRequest, phrasings: Sequence[EditRequest]
) -> tuple[str, ...]:
    """The paraphrases that no copy says word for word: these can evaluate it.

    Args:
        request: What is asked for.
        phrasings: The request and its copies, as `phrase` gives them.
    """
    edited = {copy.rewrite_prompt for copy in phrasings[1:]}
    return tuple(text for text in request.paraphrase_prompts if text not in edited)


def unedited_questions(
    request: EditRequest, phrasings: Sequence[EditRequest]
) -> tuple[BenchmarkQuestion, ...]:
    """The questions of a benchmark that ask nothing which a copy says word for word.

    Args:
        request: What is asked for.
        phrasings: The request and its copies, as `phrase` gives them.
    """
    edited = [copy.rewrite_prompt for copy in phrasings[1:]]
    return tuple(
        each
        for each in request.benchmark_questions
        if not any(text in each.prompt for text in edited)
    )


def read_templates(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a JSON object: for each relation id, or ``*``, a list of prompts.

    Raises:
        InputError: If there is none, or a prompt does not hold exactly one ``{}``;
            names file, relation and place in the list.
    """
    found = {
        relation: tuple(_check_templates(values, f"{path}: relation `{relation}`"))
        for relation, values in read_json_object(path).items()
    }
    if not any(found.values()):
        raise InputError(
            f"{path}: holds no templates; wanted at least one, such as "
            '{"P103": ["{} is a native speaker of"]}.'
        )
    return found


def _check_templates(values: object, place: str) -> Iterator[str]:
    if not isinstance(values, list):
        raise InputError(f"{place}: wanted a list of prompts, got {values!r:.40}.")
    for number, text in enumerate(values, start=1):
        if not isinstance(text, str) or text.count("{}") != 1:
            raise InputError(
                f"{place}: template {number} wants to be a text with exactly one {{}}, "
                f"where the subject goes; got {text!r:.80}."
            )
        yield text


def _own(request: EditRequest) -> Iterator[str]:
    for text in request.paraphrase_prompts:
        if not request.subject:
            yield text
            continue
        prompt = text.replace(request.subject, "{}")
        # Braces other than the subject's would make it a prompt of two subjects.
        if text.count(request.subject) == 1 and prompt.count("{}") == 1:
            yield prompt


def _listed(
    request: EditRequest, templates: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    if request.relation_id is not None:
        yield from templates.get(request.relation_id, ())
    yield from templates.get(ANY_RELATION, ())


def _reword(request: EditRequest, prompt: str) -> EditRequest:
    return EditRequest(
        case_id=request.case_id,
        prompt=prompt,
        subject=request.subject,
        target_new=request.target_new,
        target_true=request.target_true,
        relation_id=request.relation_id,
        case_name=request.case_name,
        target_space=request.target_space,
    )
