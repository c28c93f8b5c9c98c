"""Language models that can be edited, and where their parts lie."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from editing.config import Hyperparameters
from editing.deltas import stores_transposed
from editing.errors import InputError
from editing.settings import Settings


class ModelError(InputError):
    """A model that cannot be loaded or edited."""


class Architecture(Settings):
    """Names of the parts of one family; ``{}`` stands for the block's number.

    Attributes:
        block: A transformer block; its output is the hidden state.
        down_projection: The edited module: keys are its inputs.
        final_norm: The norm before the vocabulary head.
        positions: The configuration's field for the longest input, in tokens.
    """

    block: str
    down_projection: str
    final_norm: str
    positions: str = "max_position_embeddings"


# Families whose settings were run; another one is a line here.
ARCHITECTURES = {
    "gpt2": Architecture(
        block="transformer.h.{}",
        down_projection="transformer.h.{}.mlp.c_proj",
        final_norm="transformer.ln_f",
        positions="n_positions",
    ),
}


@dataclass(frozen=True)
class EditableModel:
    """A causal language model with its tokenizer and the names of its parts."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture

    @property
    def device(self) -> torch.device:
        """Where inputs must lie."""
        return self.model.get_input_embeddings().get_parameter("weight").device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of forward passes."""
        return self.model.dtype

    @property
    def longest_input(self) -> int:
        """Most tokens that one input may have."""
        return int(getattr(self.model.config, self.architecture.positions))

    @cached_property
    def block_count(self) -> int:
        """Number of transformer blocks."""
        container, _, _ = self.architecture.block.partition(".{}")
        return len(list(self.model.get_submodule(container).children()))

    def block(self, layer: int) -> nn.Module:
        """The block whose output is the hidden state after `layer`."""
        return self.model.get_submodule(self.architecture.block.format(layer))

    def down_projection(self, layer: int) -> nn.Module:
        """The module that an edit of `layer` changes."""
        return self.model.get_submodule(self.architecture.down_projection.format(layer))

    def weight_name(self, layer: int) -> str:
        """The parameter that an edit of `layer` changes."""
        return f"{self.architecture.down_projection.format(layer)}.weight"

    def widths(self, layer: int) -> tuple[int, int]:
        """``(d_out, d_in)`` of an edited layer."""
        projection = self.down_projection(layer)
        rows, columns = projection.get_parameter("weight").shape
        return (columns, rows) if stores_transposed(projection) else (rows, columns)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary for final hidden states (before the norm)."""
        norm = self.model.get_submodule(self.architecture.final_norm)
        return self.head(norm(hidden))

    def head(self, states: Tensor) -> Tensor:
        """Scores over the vocabulary for normed states."""
        scores: Tensor = self.model.get_output_embeddings()(states)
        return scores

    def check_layers(self, layers: Sequence[int]) -> None:
        """Refuse layers that the model does not have.

        Raises:
            InputError: If a layer lies outside the model.
        """
        outside = [layer for layer in layers if not 0 <= layer < self.block_count]
        if outside:
            raise InputError(
                f"`layers`: {outside} lie outside the model, which has blocks 0 to "
                f"{self.block_count - 1}."
            )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names, precision and values of all parameters, as loaded."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self.model.named_parameters()):
            digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
            flat = parameter.detach().cpu().contiguous().view(torch.uint8)
            digest.update(flat.numpy().data)
        return digest.hexdigest()

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of how the tokenizer cuts: its vocabulary and a probe text."""
        digest = hashlib.sha256()
        for token, number in sorted(self.tokenizer.get_vocab().items()):
            digest.update(f"{token} {number}\n".encode())
        digest.update(str(self.tokenizer("The probe, 1 text.")["input_ids"]).encode())
        return digest.hexdigest()


def load_editable_model(
    path: str,
    dtype: str = "float32",
    device: str = "cpu",
    hyperparameters: Hyperparameters | None = None,
) -> EditableModel:
    """Load a model from a folder or a hub name, ready to be edited.

    A `ModelError` says so if nothing loadable is there, or the family is not known and
    the hyperparameters do not name its modules.
    """
    options: dict[str, Any] = {"attn_implementation": "sdpa"}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, dtype), **options
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _unloadable(path, error) from None
    moved: PreTrainedModel = nn.Module.to(model, torch.device(device))
    return make_editable(moved, tokenizer, hyperparameters)


def load_tokenizer(path: str) -> tuple[PreTrainedTokenizerBase, int]:
    """Load a model's tokenizer and the longest input it reads, without its weights.

    A `ModelError` says so if no model lies there, or its family is not known.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(path, error) from None
    known = ARCHITECTURES.get(str(config.model_type))
    if known is None:
        raise _unknown(str(config.model_type))
    return tokenizer, int(getattr(config, known.positions))


def make_editable(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    hyperparameters: Hyperparameters | None = None,
) -> EditableModel:
    """Wrap a loaded model: evaluation mode, no gradients for its weights.

    Raises:
        ModelError: If the family is unknown and the hyperparameters name no modules,
            or the tokenizer cannot tell where in the text a token lies.
    """
    family = str(model.config.model_type)
    known = ARCHITECTURES.get(family)
    named = _named_modules(hyperparameters, known)
    if named is None:
        raise _unknown(family)
    if not tokenizer.is_fast:
        raise ModelError(
            "The tokenizer has no offsets (it is not a fast one), so the subject's "
            "last token cannot be found. Save it with a tokenizer.json."
        )
    model.train(False).requires_grad_(False)
    return EditableModel(model, tokenizer, named)


def _unloadable(path: str, error: Exception) -> ModelError:
    where = "folder" if Path(path).exists() else "folder or hub name"
    first_line = str(error).strip().splitlines()[0] if str(error) else "no reason"
    return ModelError(
        f"`model.path` {path!r}: no causal language model can be loaded from this "
        f"{where} ({first_line}). Wanted a folder with config.json, weights and "
        "tokenizer, as `save_pretrained` writes it, or the word `embedded`."
    )


def _unknown(family: str) -> ModelError:
    return ModelError(
        f"Models of type `{family}` cannot be edited yet; known: "
        f"{', '.join(sorted(ARCHITECTURES))}. Another family is one line in "
        "editing/architectures.py."
    )


def _named_modules(
    hyperparameters: Hyperparameters | None, known: Architecture | None
) -> Architecture | None:
    if hyperparameters is None:
        return known
    given = {
        "block": hyperparameters.layer_module_tmp,
        "down_projection": hyperparameters.rewrite_module_tmp,
        "final_norm": hyperparameters.ln_f_module,
    }
    values = (known.model_dump() if known else {}) | {
        field: name for field, name in given.items() if name is not None
    }
    complete = {"block", "down_projection", "final_norm"} <= values.keys()
    return Architecture.model_validate(values) if complete else None
