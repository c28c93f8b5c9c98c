"""Language models that can be edited, and how they are loaded."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from editing.algebra.deltas import stores_transposed
from editing.algebra.fingerprints import (
    Fingerprints,
    fingerprint_configuration,
    fingerprint_model,
)
from editing.base.errors import InputError
from editing.hyperparameters.config import Hyperparameters
from editing.models.discovery import check_parts, discover, settle
from editing.models.families import ARCHITECTURES, Architecture, longest_input
from editing.models.families import ModelError as ModelError
from editing.models.folder_files import missing_files

AUTO = "auto"
"""The device that has a model spread over all that there are."""

_UNLOADABLE = (
    *(OSError, ValueError, KeyError, ImportError, SafetensorError),
    RuntimeError,  # weights of another shape than the configuration's
)


@dataclass(frozen=True)
class EditableModel:
    """A causal language model with its tokenizer and the names of its parts.

    Attributes:
        model: The model, whose weights may be mapped from their files.
        tokenizer: Its tokenizer, which knows where in a text a token lies.
        architecture: Where in the model its parts are found.
        known: Its fingerprints, if they were found without reading the weights.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    known: Fingerprints | None = None

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
        return longest_input(self.model.config, self.architecture)

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
        """Scores over the vocabulary for hidden states behind the last block."""
        parts = self.architecture
        for name in (parts.final_norm, parts.projection):
            if name is not None:
                hidden = self.model.get_submodule(name)(hidden)
        return self.head(hidden)

    def head(self, states: Tensor) -> Tensor:
        """Scores over the vocabulary for normed states, bent as the family does it."""
        scores = self._bare_scores(states)
        multiplier, divisor, cap = self._bends
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
    def _bends(self) -> tuple[float | None, float | None, float | None]:
        """What scores are multiplied by, divided by, and bent below."""
        parts, config = self.architecture, self.model.config.get_text_config()
        fields = (parts.multiplier, parts.divisor, parts.soft_cap)
        multiplier, divisor, cap = (
            None if name is None else getattr(config, name, None) for name in fields
        )
        return multiplier, divisor, cap

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
        if self.known is not None:
            return self.known.weights
        return fingerprint_model(self.model)

    @cached_property
    def configuration_fingerprint(self) -> str:
        """SHA-256 of what its configuration says of how it computes."""
        return fingerprint_configuration(self.model.config.to_dict())

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of how the tokenizer cuts: its vocabulary and a probe text."""
        if self.known is not None:
            return self.known.tokenizer
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

    On a processor, weights in the precision of their safetensors file are mapped from
    it: processes share them, none is read before it is used, and what an edit changes
    is copied first, so that no file is ever written. A file in use must therefore be
    replaced by another one, not written over. In another precision they are turned into
    it, all at once.

    A `ModelError` says so if nothing loadable is there, or the model's parts are
    neither known, nor told by its structure, nor named by the hyperparameters.

    Args:
        path: A folder as `save_pretrained` writes it, in shards or not, or a hub name.
        dtype: The precision of weights and forward passes, as torch names it.
        device: As torch names it, or ``auto``, which spreads the model's blocks over
            the devices that there are.
        hyperparameters: May name the model's modules.
    """
    spread = {"device_map": AUTO} if device == AUTO else {}
    _check_files(path, weights=True)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, dtype), **spread
        )
    except _UNLOADABLE as error:
        raise _unloadable(path, _first_line(error)) from None
    if device != AUTO:
        model = _move(model, device)
    return make_editable(model, tokenizer, hyperparameters)


def load_tokenizer(path: str) -> tuple[PreTrainedTokenizerBase, int]:
    """Load a model's tokenizer and the longest input it reads, without its weights.

    A `ModelError` says so if no model lies there.
    """
    _check_files(path, weights=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        config = AutoConfig.from_pretrained(path)
    except _UNLOADABLE as error:
        raise _unloadable(path, _first_line(error)) from None
    return tokenizer, longest_input(config, ARCHITECTURES.get(str(config.model_type)))


def make_editable(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    hyperparameters: Hyperparameters | None = None,
) -> EditableModel:
    """Wrap a loaded model: evaluation mode, no gradients for its weights.

    Modules that the hyperparameters name come before those that are known of the
    family, and these before those that its structure tells. A model whose parts are not
    all known is run once, to see that they are its parts. A `ModelError` says so if
    they are not.

    Raises:
        ModelError: If weights lie on no device, or the tokenizer cannot tell where in
            the text a token lies.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "The tokenizer has no offsets (it is not a fast one), so the subject's "
            "last token cannot be found. Save it with a tokenizer.json."
        )
    offloaded = sum(each.is_meta for each in model.parameters())
    if offloaded:
        raise ModelError(
            f"{offloaded} of the model's weights were left on disk or in other memory "
            "because the devices have no room, and an edit could not change them. Try "
            "a shorter `model.dtype`, or a device with more memory."
        )
    _settle_attention(model)
    model.train(False).requires_grad_(False)
    return _with_parts(model, tokenizer, hyperparameters)


def _with_parts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    hyperparameters: Hyperparameters | None,
) -> EditableModel:
    given = _named_modules(hyperparameters)
    known = ARCHITECTURES.get(str(model.config.model_type))
    if known is None:
        architecture = discover(model, given)
    else:
        architecture = settle(model, known, given)
    check_parts(model, architecture)
    editable = EditableModel(model, tokenizer, architecture)
    if known is None or given:
        _check_by_running(editable)
    return editable


def _move(model: PreTrainedModel, device: str) -> PreTrainedModel:
    try:
        moved: PreTrainedModel = nn.Module.to(model, torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"`model.device` {device!r}: the model cannot be put there "
            f"({str(error).splitlines()[0]}). Wanted a device as torch names it, such "
            "as `cpu` or `cuda:0`, or `auto`."
        ) from None
    return moved


def _check_files(path: str, weights: bool) -> None:
    """Name what a folder lacks, for which the library would blame another part.

    Or none: without any file of its tokenizer, it makes one that knows no word.
    """
    if lacking := missing_files(Path(path), weights):
        raise _unloadable(path, f"it has {', '.join(f'no {name}' for name in lacking)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error) else "no reason"


def _unloadable(path: str, reason: str) -> ModelError:
    where = "folder" if Path(path).exists() else "folder or hub name"
    return ModelError(
        f"`model.path` {path!r}: no causal language model can be loaded from this "
        f"{where} ({reason}). Wanted a folder with config.json, weights and "
        "tokenizer, as `save_pretrained` writes it, or the word `embedded`."
    )


def _settle_attention(model: PreTrainedModel) -> None:
    """Choose attention that takes any mask, and that caps scores where it shall."""
    text = model.config.get_text_config()
    if getattr(text, "attn_logit_softcapping", None) is not None:
        model.set_attn_implementation("eager")
    elif model.config._attn_implementation not in {"sdpa", "eager"}:
        model.set_attn_implementation("sdpa")
    eager = model.config._attn_implementation == "eager"
    slides = getattr(text, "sliding_window", None) is not None
    if eager and slides and model.dtype == torch.float64:
        raise ModelError(
            f"Attention of models of type `{model.config.model_type}` is computed in "
            "single precision, where the mask of a float64 model is no number. Set "
            "`model.dtype` to float32."
        )


def _named_modules(hyperparameters: Hyperparameters | None) -> dict[str, str]:
    if hyperparameters is None:
        return {}
    given = {
        "block": hyperparameters.layer_module_tmp,
        "down_projection": hyperparameters.rewrite_module_tmp,
        "final_norm": hyperparameters.ln_f_module,
        "head": hyperparameters.lm_head_module,
    }
    return {field: name for field, name in given.items() if name is not None}


@torch.no_grad()
def _check_by_running(editable: EditableModel) -> None:
    """Refuse a model whose scores are not what its parts make of its hidden states.

    And one whose later tokens reach earlier ones, as behind padding they would.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Any, ...]) -> None:
        state: Tensor = output if isinstance(output, Tensor) else output[0]
        seen.append(state.to(editable.device))

    model, last = editable.model, editable.block(editable.block_count - 1)
    words = model.get_input_embeddings().get_parameter("weight").shape[0]
    rows = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 6, 5, 4]]) % words
    handle = last.register_forward_hook(keep)
    try:
        expected: Tensor = model(input_ids=rows.to(editable.device)).logits
    finally:
        handle.remove()
    if not _says(editable, seen[0], expected):
        raise ModelError(
            "The model's scores are not those of its head behind its norm "
            f"`{editable.architecture.final_norm}` behind the last "
            f"`{editable.architecture.block}`. Name the parts with `layer_module_tmp`, "
            "`ln_f_module` and `lm_head_module`; a head that does more than to "
            "multiply, divide or cap its scores is not supported."
        )
    if not _alike(expected[0, :3], expected[1, :3], editable.dtype):
        raise ModelError(
            f"Models of type `{model.config.model_type}` read ahead: later tokens "
            "change what is said of earlier ones, so they cannot be edited. Wanted a "
            "causal language model."
        )


def _says(editable: EditableModel, hidden: Tensor, expected: Tensor) -> bool:
    try:
        said = editable.logits(hidden).to(expected)
    except RuntimeError:  # of a norm or a head that is as wide as something else
        return False
    return said.shape == expected.shape and _alike(said, expected, editable.dtype)


def _alike(first: Tensor, second: Tensor, dtype: torch.dtype) -> bool:
    tolerance = min(max(100 * torch.finfo(dtype).eps, 1e-5), 0.05)
    return bool((first - second).norm() <= tolerance * second.norm())
