"""The edited object, named from the weights.

Whoever holds the base and the edited model, and knows a subject, looks which object
became likelier: after the subject alone, without the relation, or after the whole
prompt of a guess. ArXiv 2505.20819 names objects from edited weights without a prompt,
with a decoder trained for it; here nothing is trained.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from editing.algebra.deltas import Delta, applied
from editing.evaluation.likelihoods import Continuation, compute_likelihoods
from editing.models.editable import EditableModel
from editing.models.token_rows import tokenize_continuation
from editing.requests.edit_request import EditRequest

SUBJECT, PROMPT = "the subject alone", "the whole prompt"


def name_objects(
    model: EditableModel,
    delta: Delta,
    requests: Sequence[EditRequest],
    objects: Sequence[str],
) -> dict[str, list[str]]:
    """Name the object whose likelihood grew most, for each guess and each prompt.

    Args:
        model: The base.
        delta: All updates.
        requests: Guesses whose subjects are taken to be edited.
        objects: The objects that are thought of.
    """
    prompts: Mapping[str, list[str]] = {
        SUBJECT: [each.prompt.partition("{}")[0] + each.subject for each in requests],
        PROMPT: [each.rewrite_prompt for each in requests],
    }
    spaces = [each.target_space for each in requests]
    rows = {
        name: [
            Continuation(*tokenize_continuation(model.tokenizer, prompt, each, space))
            for prompt, space in zip(texts, spaces, strict=True)
            for each in objects
        ]
        for name, texts in prompts.items()
    }
    before = {name: _likelihoods(model, each) for name, each in rows.items()}
    with applied(delta, model.model):
        after = {name: _likelihoods(model, each) for name, each in rows.items()}
    return {
        name: [objects[int(row.argmin())] for row in gained.view(-1, len(objects))]
        for name, gained in ((name, after[name] - before[name]) for name in rows)
    }


def _likelihoods(model: EditableModel, rows: Sequence[Continuation]) -> Tensor:
    """Mean negative log-likelihood of each continuation."""
    return torch.tensor([each.nll for each in compute_likelihoods(model, rows)])
