"""Which published form a record of edit requests has, and the reader of each.

A reader turns a record into the fields of
`editing.requests.edit_request.EditRequest`. Which form a record has follows from its
fields, record by record (`recognise`).
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from editing.base.errors import RequestError
from editing.requests.forms.conflictedit import from_conflict_edit
from editing.requests.forms.counterfact import from_counterfact
from editing.requests.forms.fields import Fields, without_nulls
from editing.requests.forms.knowedit import from_knowedit
from editing.requests.forms.mquake import from_mquake
from editing.requests.forms.qaedit import from_qaedit
from editing.requests.forms.zsre import ZsreTarget, from_wikibigedit, from_zsre


def from_flat(record: Mapping[str, object]) -> Fields:
    """The fields of an `EditRequest` by name; `EditRequest` itself checks them."""
    return dict(record)


Reader: TypeAlias = Callable[[Mapping[str, object]], Fields]

_READERS: dict[str, Reader] = {
    "CounterFact": from_counterfact,
    "ConflictEdit": from_conflict_edit,
    "WikiBigEdit": from_wikibigedit,
    "QAEdit": from_qaedit,
    "KnowEdit": from_knowedit,
    "flat": from_flat,
}

_MARKS: dict[str, tuple[str, ...]] = {
    "CounterFact": ("requested_rewrite",),
    "ConflictEdit": ("edit", "true_objects"),
    "zsRE": (
        "src",
        "alt",
        "answers",
        "pred",
        "alter_subject_question",
        "inverse question",
    ),
    "WikiBigEdit": ("update", "ans", "personas", "mhop", "mhop_ans"),
    "QAEdit": ("target",),
    "KnowEdit": (
        "ground_truth",
        "rephrase_prompt",
        "locality_prompt",
        "locality_ground_truth",
        "concept",
        "labels",
        "text",
        "target_old",
    ),
}
"""Fields that one form has and no other."""

_ZSRE_LOCALITY = ("loc", "loc_ans")
"""Fields of zsRE's that WikiBigEdit has as well."""

_UNSUPPORTED: dict[str, tuple[str, ...]] = {
    "RippleEdits": (
        "example_type",
        "Relation_Specificity",
        "Logical_Generalization",
        "Subject_Aliasing",
        "Compositionality_I",
        "Compositionality_II",
        "Forgetfulness",
        "edit.subject_id",
        "edit.target_id",
    ),
    "UnKE": ("para_question", "sub_question", "sub_answer"),
    "MMEdit": ("image", "image_rephrase", "m_loc", "m_loc_q", "m_loc_a"),
    "SafeEdit": ("adversarial prompt", "unsafe generation", "safe generation"),
    "ConceptEdit": ("concept_name", "replace_def"),
    "zsRE before MEND's split": ("filtered_rephrases", "alternatives"),
}
"""Fields of published sets whose edits are not of one subject, prompt and target."""

_PLAIN = ("prompt", "subject", "target_new")

_KNOWN = (
    "CounterFact (`requested_rewrite`), MQuAKE (a list of these), ConflictEdit "
    "(`edit`), zsRE (`src`, `answers`, `alt`), WikiBigEdit (`update`, `ans`), QAEdit "
    "(`prompt`, `subject`, `target`), KnowEdit (`prompt`, `subject`, `target_new`, "
    "`locality` by kind; or `text`, `concept`, `labels`), flat (`prompt`, `subject`, "
    "`target_new`)"
)


def recognise(record: Mapping[str, object]) -> str:
    """Name a record's form: the one that alone has some of its fields.

    A record without any such field is KnowEdit's if it has ``rephrase`` or groups
    ``locality`` or ``portability`` by kind, and flat if it has a prompt, a subject or a
    target.

    Raises:
        RequestError: If it has the fields of several forms, of none, or of one that is
            known and not supported.
    """
    _refuse_unsupported(record)
    found = [name for name, marks in _MARKS.items() if record.keys() & set(marks)]
    names = ", ".join(f"`{key:.30}`" for key in list(record)[:12]) or "none"
    if len(found) > 1:
        raise RequestError(
            f"has fields of {' and of '.join(found)} ({names}); wanted one form. "
            f"Known are {_KNOWN}."
        )
    if found == ["CounterFact"]:
        several = isinstance(record.get("requested_rewrite"), list | tuple)
        return "MQuAKE" if several else "CounterFact"
    return found[0] if found else _recognise_by_shape(record, names)


def _recognise_by_shape(record: Mapping[str, object], names: str) -> str:
    """Name the form of a record whose fields several forms have."""
    if record.keys() & set(_ZSRE_LOCALITY):
        return "zsRE"
    if not record.keys() & set(_PLAIN):
        raise RequestError(f"has no known form. Its fields: {names}. Known: {_KNOWN}.")
    grouped = [record.get("locality"), record.get("portability")]
    if any(_lists_locality_of_qaedit(each) for each in grouped):
        return "QAEdit"
    if "rephrase" in record or any(isinstance(each, Mapping) for each in grouped):
        return "KnowEdit"
    return "flat"


def _lists_locality_of_qaedit(value: object) -> bool:
    return isinstance(value, list | tuple) and any(
        isinstance(each, Mapping) and each.keys() & set(_ZSRE_LOCALITY)
        for each in value
    )


def _refuse_unsupported(record: Mapping[str, object]) -> None:
    edit = record.get("edit")
    within = {f"edit.{key}" for key in edit} if isinstance(edit, Mapping) else set()
    for name, marks in _UNSUPPORTED.items():
        found = [mark for mark in marks if mark in record or mark in within]
        if found:
            raise RequestError(
                f"has the form of {name} (`{found[0]}`), which is not supported. Known "
                f"are {_KNOWN}."
            )


def read_form(
    record: Mapping[str, object], zsre_target: ZsreTarget, index: int = 0
) -> tuple[Fields, ...]:
    """Turn a record of any known form into the fields of each of its requests.

    All forms but MQuAKE have one request a record. A field that is null counts as one
    that is not there, for columns cannot tell them apart. What is wrong is a
    `RequestError`, which names the field as the record spells it.

    Args:
        record: A JSON object.
        zsre_target: Which field of zsRE's records is edited in.
        index: The record's place in its source, which numbers MQuAKE's rewrites.
    """
    given = {str(key): value for key, value in record.items()}
    bare = without_nulls(given)
    form = recognise(bare)
    if form == "MQuAKE":
        return from_mquake(bare, index)
    if form == "zsRE":
        return (from_zsre(bare, zsre_target),)
    return (_READERS[form](bare),)
