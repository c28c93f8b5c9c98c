"""Context templates: prefixes prepended to a prompt."""

from pathlib import Path

import torch
from torch import Tensor

from editing.hyperparameters.config import EditingConfig, read_context_templates
from editing.models.editable import check_finite
from editing.models.loading import EditableModel
from editing.models.token_rows import BARE, tokenize_text

OPENINGS = ("The", "Therefore", "Because", "I", "You")
"""What MEMIT's published program lets the model continue."""

LENGTH = 10
"""Tokens sampled after each opening."""

CANDIDATES = 5
"""Most likely tokens that a sample is drawn from."""


def choose_templates(
    model: EditableModel, config: EditingConfig, model_folder: Path | None = None
) -> tuple[str, ...]:
    """Take the templates that the settings name, the model's own, or sample some."""
    own = model_folder / "context_templates.json" if model_folder else None
    if config.context_templates is not None:
        return read_context_templates(config.context_templates)
    if own is not None and own.is_file():
        return read_context_templates(own)
    return sample_templates(model, config.context_seed)


@torch.no_grad()
def sample_templates(model: EditableModel, seed: int) -> tuple[str, ...]:
    """Let the model continue the openings, the same way for the same seed.

    Each template is a sampled text, a full stop and the prompt (the published code of
    arXiv 2210.07229 does so, with an unseeded generator).
    """
    generator = torch.Generator().manual_seed(seed)
    texts = [_continue(model, opening, generator) for opening in OPENINGS]
    # Braces would be read as places for the subject.
    clean = [text.replace("{", " ").replace("}", " ").strip() for text in texts]
    return (BARE, *(f"{text}. {BARE}" for text in clean))


def _continue(model: EditableModel, opening: str, generator: torch.Generator) -> str:
    ids = list(tokenize_text(model.tokenizer, opening).ids)
    for _ in range(LENGTH):
        row = torch.tensor([ids], device=model.device)
        logits: Tensor = model.model(input_ids=row).logits[0, -1]
        scores, tokens = logits.float().topk(CANDIDATES)
        check_finite(scores, "scores")
        drawn = torch.multinomial(scores.softmax(dim=0).cpu(), 1, generator=generator)
        ids.append(int(tokens[drawn]))
    return str(model.tokenizer.decode(ids, skip_special_tokens=True))
