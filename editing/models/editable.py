"""A language model that can be edited."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from editing.algebra.deltas import stores_transposed
from editing.algebra.fingerprints import (
    Fingerprints,
    fingerprint_configuration,
    fingerprint_model,
)
from editing.base.errors import InputError
from editing.models.families import Architecture, ModelFilesError, longest_input


@dataclass(frozen=True)
class EditableModel:
    """A causal language model with its tokenizer and the names of its parts.

    Attributes:
        model: The model, whose weights may be mapped from their files.
        tokenizer: Its tokenizer, which maps tokens to positions in a text.
        architecture: Where in the model its parts are found.
        known: Its fingerprints, if they are known without reading the weights.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    known: Fingerprints | None = None

    @property
    def device(self) -> torch.device:
        """Return the device of the inputs."""
        return self.model.get_input_embeddings().get_parameter("weight").device

    @property
    def dtype(self) -> torch.dtype:
        """Return the precision of forward passes."""
        return self.model.dtype

    @cached_property
    def longest_input(self) -> int:
        """Return the largest number of tokens of one input."""
        return longest_input(self.model.config, self.architecture)

    @cached_property
    def block_count(self) -> int:
        """Return the number of transformer blocks."""
        container, _, _ = self.architecture.block.partition(".{}")
        return len(list(self.model.get_submodule(container).children()))

    def block(self, layer: int) -> nn.Module:
        """Return the block whose output is the hidden state after `layer`."""
        return self.model.get_submodule(self.architecture.block.format(layer))

    def down_projection(self, layer: int) -> nn.Module:
        """Return the module that an edit of `layer` changes."""
        return self.model.get_submodule(self.architecture.down_projection.format(layer))

    def weight_name(self, layer: int) -> str:
        """Return the name of the parameter that an edit of `layer` changes."""
        return f"{self.architecture.down_projection.format(layer)}.weight"

    def weight(self, layer: int) -> Tensor:
        """Return a view of the weight of an edited layer, ``d_out × d_in``."""
        projection = self.down_projection(layer)
        weight = projection.get_parameter("weight").detach()
        return weight.mT if stores_transposed(projection) else weight

    def widths(self, layer: int) -> tuple[int, int]:
        """Return ``(d_out, d_in)`` of an edited layer."""
        projection = self.down_projection(layer)
        rows, columns = projection.get_parameter("weight").shape
        return (columns, rows) if stores_transposed(projection) else (rows, columns)

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute scores over the vocabulary from outputs of the last block."""
        parts = self.architecture
        for name in (parts.final_norm, parts.projection):
            if name is not None:
                hidden = self.model.get_submodule(name)(hidden)
        return self.head(hidden)

    def head(self, states: Tensor) -> Tensor:
        """Compute scores from normed states, with the family's scaling and capping."""
        scores = self._bare_scores(states)
        multiplier, divisor, cap = self._score_scaling
        if multiplier is not None:
            scores = scores * multiplier
        if divisor is not None:
            scores = scores / divisor
        if cap is not None:
            scores = cap * torch.tanh(scores / cap)
        return scores.to(states.device)

    def _bare_scores(self, states: Tensor) -> Tensor:
        name = self.architecture.head
        module: nn.Module = (
            self.model.get_output_embeddings()
            if name is None
            else self.model.get_submodule(name)
        )
        if isinstance(module, nn.Embedding):
            return linear(states, module.weight)
        scores: Tensor = module(states)
        return scores

    @cached_property
    def _score_scaling(self) -> tuple[float | None, float | None, float | None]:
        """Return the factor, the divisor and the soft cap of scores."""
        parts, config = self.architecture, self.model.config.get_text_config()
        fields = (parts.multiplier, parts.divisor, parts.soft_cap)
        multiplier, divisor, cap = (
            None if name is None else getattr(config, name, None) for name in fields
        )
        return multiplier, divisor, cap

    def check_layers(self, layers: Sequence[int]) -> None:
        """Refuse layers that the model does not have.

        Raises:
            InputError: If a layer is outside the model.
        """
        outside = [layer for layer in layers if not 0 <= layer < self.block_count]
        if outside:
            raise InputError(
                f"`layers`: {outside} lie outside the model, which has blocks 0 to "
                f"{self.block_count - 1}."
            )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names, precision and values of all parameters, as loaded.

        Weights that are not finite are a `ModelError`.
        """
        if self.known is not None:
            return self.known.weights
        check_weights_finite(self.model)
        return fingerprint_model(self.model)

    @cached_property
    def configuration_fingerprint(self) -> str:
        """SHA-256 of the entries of its configuration that change what it computes."""
        return fingerprint_configuration(self.model.config.to_dict())

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of how the tokenizer tokenizes: its vocabulary and a probe text."""
        if self.known is not None:
            return self.known.tokenizer
        digest = hashlib.sha256()
        for token, number in sorted(self.tokenizer.get_vocab().items()):
            digest.update(f"{token} {number}\n".encode())
        digest.update(str(self.tokenizer("The probe, 1 text.")["input_ids"]).encode())
        return digest.hexdigest()


def check_finite(values: Tensor, what: str) -> None:
    """Refuse what a model computes from weights that are not finite.

    Args:
        values: What it computes.
        what: Their name in the error.

    Raises:
        ModelFilesError: If a value is NaN or infinite.
    """
    if not bool(values.isfinite().all()):
        raise ModelFilesError(
            f"The model's {what} are not finite numbers. A weight is NaN or infinite, "
            "or too large for the model's precision: check the files of `model.path`, "
            "or load the model in float32 (`model.dtype`)."
        )


def check_weights_finite(model: nn.Module) -> None:
    """Refuse a model with a weight that is NaN or infinite; reads every weight.

    Raises:
        ModelFilesError: Naming the first such weight.
    """
    for name, weight in model.named_parameters():
        extremes = torch.stack(weight.detach().aminmax())  # they keep a NaN
        if not bool(extremes.isfinite().all()):
            raise ModelFilesError(
                f"The weight {name} of the model has entries that are NaN or infinite. "
                "Check the files of `model.path`, or load them in a precision with a "
                "wider range (`model.dtype`)."
            )
