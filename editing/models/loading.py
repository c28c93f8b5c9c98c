"""Loading of language models from folders and the hub."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from editing.files.model_json import check_json_files
from editing.models.discovery import check_parts, discover, settle
from editing.models.editable import EditableModel as EditableModel
from editing.models.editable import check_finite
from editing.models.families import ARCHITECTURES, ModelFilesError, longest_input
from editing.models.families import ModelError as ModelError
from editing.models.module_names import ModuleNames
from editing.models.published_class import without_published
from editing.sources.own_code import explain_own_code, runs_own_code

AUTO = "auto"
"""The device that has a model spread over all that there are."""

CONFIGURATION = ("config.json", "adapter_config.json")
VOCABULARY = (
    "tokenizer.json",
    *("tokenizer.*", "*vocab*", "merges*", "*bpe*"),
    *("*.model", "*.spm", "*.tiktoken", "tekken*"),
)
WEIGHTS = (
    "model.safetensors",
    *("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json"),
)
"""Names that a file of each part may have; the usual one first."""

_FORMER_BUFFERS = re.compile(
    r"(^|\.)(self_)?(attn|attention)\.(masked_)?bias$|rotary_emb\.|position_ids$"
)
"""Masks and positions that earlier releases saved with the weights."""


def load_editable_model(
    path: str,
    dtype: str = "float32",
    device: str = "cpu",
    names: ModuleNames | None = None,
) -> EditableModel:
    """Load a model from a folder or a hub name, ready to be edited.

    On a CPU, weights in the precision of their safetensors file are mapped from it:
    processes share them, none is read before it is used, and what an edit changes is
    copied first, so that no file is ever written. A file in use must therefore be
    replaced by another one, not overwritten. In another precision they are converted,
    all at once.

    It is a `ModelError` if nothing loadable is there, weights are missing or surplus
    (see `load_weights`), or the model's parts are not found.

    Args:
        path: A folder as `save_pretrained` writes it, in shards or not, or a hub name.
        dtype: The precision of weights and forward passes, as torch names it.
        device: As torch names it, or ``auto``, which spreads the model's blocks over
            the devices that there are.
        names: The model's modules, where they are not those of its family.
    """
    spread = {"device_map": AUTO} if device == AUTO else {}
    _check_files(path, weights=True)
    with _naming_faults(path):
        own = runs_own_code(path)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=own)
        model = load_weights(path, dtype=getattr(torch, dtype), **spread)
    if device != AUTO:
        model = _move(model, device)
    return make_editable(model, tokenizer, names)


def load_weights(path: str, **options: object) -> PreTrainedModel:
    """Load a causal language model whose files hold its weights and no others.

    The library draws missing weights at random and leaves surplus ones out. Tied
    weights may be missing, and buffers and what the family ignores may be surplus, as
    may the other parts of a checkpoint of which the text model alone is loaded.

    Args:
        path: A folder or a hub name.
        options: As for ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        ModelFilesError: Naming the first weight that is missing, surplus, or of another
            shape than config.json gives it.
    """
    check_json_files(path)
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    options |= {"trust_remote_code": runs_own_code(path)}
    loaded: Any = AutoModelForCausalLM.from_pretrained(path, **options)
    model, report = loaded
    if fault := _describe_report(model, report, path):
        raise ModelFilesError(
            f"`model.path` {path!r}: the weights are not those of the model that "
            f"config.json describes: {fault}. Wanted the files as `save_pretrained` "
            "writes them: not cut short, not of a wrapped model under other names, "
            "and with the config.json that they were saved with."
        )
    assert isinstance(model, PreTrainedModel)
    return model


def _describe_report(
    model: PreTrainedModel, report: Mapping[str, Any], path: str
) -> str:
    """Name the first weight of each fault in the library's report; empty if none."""
    own = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name for name, _ in model.named_buffers()}
    missing = sorted(own & set(report["missing_keys"]))
    surplus = sorted(
        name
        for name in set(report["unexpected_keys"]) - buffers
        if not _FORMER_BUFFERS.search(name)
    )
    surplus = without_published(path, type(model).__name__, surplus)
    faults = []
    if missing:
        faults.append(f"{len(missing)} missing, first {missing[0]}")
    if surplus:
        faults.append(f"{len(surplus)} surplus, first {surplus[0]}")
    if others := sorted(report["mismatched_keys"]):
        name, stored, wanted = others[0]
        faults.append(
            f"{len(others)} of another shape, first {name} with "
            f"{'x'.join(map(str, stored))} instead of {'x'.join(map(str, wanted))}"
        )
    return "; ".join(faults)


def load_tokenizer(path: str) -> tuple[PreTrainedTokenizerBase, int]:
    """Load a model's tokenizer and its longest input in tokens, without its weights.

    It is a `ModelError` if no model is there.
    """
    _check_files(path, weights=False)
    with _naming_faults(path):
        own = runs_own_code(path)
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=own)
        config = AutoConfig.from_pretrained(path, trust_remote_code=own)
    return tokenizer, longest_input(config, ARCHITECTURES.get(str(config.model_type)))


def make_editable(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    names: ModuleNames | None = None,
) -> EditableModel:
    """Wrap a loaded model: evaluation mode, no gradients for its weights.

    Given names come before those of the family, and these before what the model's
    structure shows. A model whose parts are not all known is run once to check them; it
    is a `ModelError` if they are not its parts.

    Raises:
        ModelError: If weights are on no device, the tokenizer has no offsets, or it has
            ids without an embedding.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "The tokenizer has no offsets (it is not a fast one), so the subject's "
            "last token cannot be found. Save it with a tokenizer.json."
        )
    _check_vocabulary(model, tokenizer)
    offloaded = sum(each.is_meta for each in model.parameters())
    if offloaded:
        raise ModelError(
            f"{offloaded} of the model's weights were left on disk or in other memory "
            "because the devices have no room, and an edit could not change them. Try "
            "a shorter `model.dtype`, or a device with more memory."
        )
    _settle_attention(model)
    model.train(False).requires_grad_(False)
    return _with_parts(model, tokenizer, names)


def _with_parts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    names: ModuleNames | None,
) -> EditableModel:
    given = {} if names is None else names.given
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


def _check_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse a tokenizer with ids that the embeddings have no rows for.

    Raises:
        ModelFilesError: If there is such an id.
    """
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    last = max(tokenizer.get_vocab().values(), default=0)
    if last >= rows:
        raise ModelFilesError(
            f"The tokenizer has token ids up to {last}, and the embeddings have "
            f"{rows} rows. Save the model with the tokenizer's own embeddings "
            f"(`model.resize_token_embeddings({last + 1})`, then train the new rows), "
            "or remove the added tokens from the tokenizer."
        )


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
    """Name the files that a folder lacks, for which the library blames other parts.

    Without any file of a tokenizer, the library makes an empty one.
    """
    if lacking := missing_files(Path(path), weights):
        raise _unloadable(path, f"it has {', '.join(f'no {name}' for name in lacking)}")
    check_json_files(path)


def missing_files(folder: Path, weights: bool) -> list[str]:
    """Name the files that a folder needs to hold a model, by their usual names.

    Empty for a path that is no folder.

    Args:
        folder: As `save_pretrained` writes it, or anything else.
        weights: Whether weights are needed, or the configuration and tokenizer alone.
    """
    if not folder.is_dir():
        return []
    parts = [CONFIGURATION, VOCABULARY, *([WEIGHTS] if weights else [])]
    return [
        names[0]
        for names in parts
        if not any(path.exists() for name in names for path in folder.glob(name))
    ]


@contextmanager
def _naming_faults(path: str) -> Iterator[None]:
    """Turn whatever the library raises of a model's files into a `ModelFilesError`.

    It takes the kinds of values in JSON files for granted, so it may raise anything.
    """
    try:
        yield
    except (ModelError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = explain_own_code(error) or first_line(error)
        raise _unloadable(path, reason) from None


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _unloadable(path: str, reason: str) -> ModelFilesError:
    where = "folder" if Path(path).exists() else "folder or hub name"
    return ModelFilesError(
        f"`model.path` {path!r}: no causal language model can be loaded from this "
        f"{where} ({reason}). Wanted a folder with config.json, weights and "
        "tokenizer, as `save_pretrained` writes it, or the word `embedded`."
    )


def _settle_attention(model: PreTrainedModel) -> None:
    """Choose attention that takes any mask, and caps scores where the model does."""
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


@torch.no_grad()
def _check_by_running(editable: EditableModel) -> None:
    """Refuse a model whose scores are not what its parts compute from hidden states.

    Also one in which later tokens change the scores of earlier ones.
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
    check_finite(expected, "scores")
    if not _says(editable, seen[0], expected):
        raise ModelError(
            "The model's scores are not those of its head after its norm "
            f"`{editable.architecture.final_norm}` after the last "
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
