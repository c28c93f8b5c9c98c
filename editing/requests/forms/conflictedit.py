"""ConflictEdit's form of edit requests."""

from collections.abc import Mapping

from editing.base.settings import Settings
from editing.requests.forms.fields import Fields, Label, Template, check_fields


class _Relation(Settings):
    id: str | None = None
    prompt: Template
    query: str | None = None
    label: str | None = None


class _Edit(Settings):
    relation: _Relation
    subject: Label
    new_object: Label
    object: Label
    conflict_object: Label | None = None


class _ConflictEdit(Settings):
    type: str | None = None
    edit: _Edit
    true_objects: tuple[Label, ...] = ()


def from_conflict_edit(record: Mapping[str, object]) -> Fields:
    """The right request of a record of ConflictEdit (Li et al., arXiv 2310.02129).

    It asks for ``new_object``; its true target is what the conflicting one asks for:
    ``conflict_object``, or ``object``, what was known before, where none is planted.
    Objects are texts, or have one under ``label``.
    """
    edit = check_fields(_ConflictEdit, record).edit
    query = edit.relation.query or ""
    opposed = edit.object if edit.conflict_object is None else edit.conflict_object
    return {
        "prompt": edit.relation.prompt,
        "subject": edit.subject,
        "target_new": edit.new_object,
        "target_true": opposed,
        "relation_id": edit.relation.id,
        "paraphrase_prompts": (
            (query.replace("{}", edit.subject),) if "{}" in query else ()
        ),
    }
