"""Find a model's parts by its family, by given names, or by its structure."""

import re
from collections import defaultdict
from collections.abc import Mapping
from difflib import get_close_matches

from torch import nn
from transformers import PreTrainedModel

from editing.algebra.deltas import stores_transposed
from editing.models.families import Architecture, ModelError

FORMER_HEADS = frozenset({"embed_out"})
"""Names that the vocabulary head had in the releases that published files are for."""

NEAREST_NAMES = 3
"""How many similar names an error lists."""

SETTLED_BY = {
    "block": "layer_module_tmp",
    "down_projection": "rewrite_module_tmp",
    "final_norm": "ln_f_module",
    "head": "lm_head_module",
}
"""The hyperparameter that names a part."""

FITTING = "could be it"
NO_LINEAR = "no linear module, so not to be edited"
OTHER_WIDTH = "output not {} wide"
IN_ATTENTION = "in attention"
"""Why a module can or cannot be the down-projection."""


def discover(model: PreTrainedModel, given: Mapping[str, str]) -> Architecture:
    """Find what is not given.

    The blocks are the one list of ``num_hidden_layers`` modules; the down-projection is
    the one linear module in each, outside attention, whose output is as wide as the
    hidden state; the final norm is the one next to the blocks, after them if there are
    more. If there is none of a kind, or more than one, a `ModelError` names what was
    considered.

    Args:
        model: A causal language model.
        given: Names of parts that are settled, by field of `Architecture`.
    """
    block = given.get("block") or _find_blocks(model)
    projection = given.get("down_projection") or _find_projection(model, block)
    norm = given.get("final_norm") or _find_norm(model, block)
    if "head" not in given and model.get_output_embeddings() is None:
        raise _unclear(model, "head", [])
    return Architecture(
        block=block,
        down_projection=projection,
        final_norm=norm,
        head=given.get("head"),
    )


def settle(
    model: PreTrainedModel, known: Architecture, given: Mapping[str, str]
) -> Architecture:
    """Fit what is known of a family to this model of it.

    Some of a family's models lack a part, or have positions that windows do not keep;
    and other releases of transformers had other names for the head.
    """
    changes: dict[str, object] = dict(given)
    for field in ("final_norm", "projection"):
        name = getattr(known, field)
        if name is not None and not _has_module(model, name):
            changes.setdefault(field, None)
    if given.get("head") in FORMER_HEADS and not _has_module(model, given["head"]):
        changes["head"] = known.head
    if getattr(model.config, "alibi", False):
        changes["windows"] = False
    return known.model_copy(update=changes)


def _has_module(model: PreTrainedModel, name: str) -> bool:
    try:
        model.get_submodule(name)
    except AttributeError:
        return False
    return True


def check_parts(model: PreTrainedModel, parts: Architecture) -> None:
    """Refuse names of modules that are not there, or whose weight takes no update.

    Raises:
        ModelError: If there is one; names the hyperparameter.
    """
    for field, setting in SETTLED_BY.items():
        name = getattr(parts, field)
        if name is None:
            continue
        if field in {"block", "down_projection"} and "{}" not in name:
            raise ModelError(
                f"`{setting}` {name!r}: wanted `{{}}` for the block's number."
            )
        if not _has_module(model, name.format(0)):
            raise ModelError(
                f"`{setting}` {name!r}: this model of type "
                f"`{model.config.model_type}` has no such module; "
                f"{nearest_modules(model, name)}. Leave the hyperparameter "
                "out if the family is known."
            )
    projection = model.get_submodule(parts.down_projection.format(0))
    try:
        stores_transposed(projection)
    except TypeError as error:
        raise ModelError(f"`rewrite_module_tmp`: {error}") from None
    kind = projection.get_parameter("weight").dtype
    if not kind.is_floating_point:
        raise ModelError(
            f"`rewrite_module_tmp`: the weight is kept as {kind}, which no update can "
            "be added to. Load the model without quantisation."
        )


def nearest_modules(model: nn.Module, name: str) -> str:
    """List the names of a model that are most similar to one that it does not have.

    Args:
        model: The model.
        name: A module's name, ``{}`` for the block's number where it has one.
    """
    own = {
        re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", each): None
        for each, _ in model.named_modules()
        if each
    }
    same_kind = [each for each in own if ("{}" in each) == ("{}" in name)]
    close = get_close_matches(name, same_kind, n=NEAREST_NAMES, cutoff=0.3)
    if not close:
        return f"its modules begin with {', '.join(list(own)[:NEAREST_NAMES])}"
    return f"the nearest that it has are {', '.join(close)}"


def _find_blocks(model: PreTrainedModel) -> str:
    count = int(getattr(model.config.get_text_config(), "num_hidden_layers", 0))
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    # Lists within a block belong to it.
    outer = [
        name
        for name in lists
        if not any(name.startswith(f"{other}.") for other in lists)
    ]
    return f"{_the_one(model, 'block', outer)}.{{}}"


def _find_projection(model: PreTrainedModel, block: str) -> str:
    container, _, rest = block.partition(".{}")
    count = len(list(model.get_submodule(container).children()))
    width = int(model.config.get_text_config().hidden_size)
    each = [
        _projections(model.get_submodule(f"{container}.{number}{rest}"), width)
        for number in range(count)
    ]
    if any(names != each[0] for names in each):
        union = sorted({f"{block}.{name}" for names in each for name in names})
        raise _unclear(model, "down_projection", union, "blocks differ")
    names = [f"{block}.{name}" for name in each[0]]
    first = model.get_submodule(block.format(0))
    experts = "blocks hold experts" if _has_experts(first) else ""
    if experts or not names:
        seen = _looked_at(first, block, width)
        raise _unclear(model, "down_projection", [seen] if seen else [], experts)
    return _the_one(model, "down_projection", names)


def _projections(block: nn.Module, width: int) -> list[str]:
    return [
        name
        for name, module in block.named_modules()
        if _output_width(module) == width and not _within_attention(block, name)
    ]


def _looked_at(block: nn.Module, name: str, width: int) -> str:
    """List every module of a block that has a matrix, with the verdict on it.

    Modules that differ in a number alone, such as experts, are named once.
    """
    alike: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for part, module in block.named_modules():
        if shapes := _matrices(module):
            whole = f"{name}.{part}".removesuffix(".")
            spelt = re.sub(r"\.\d+(?=\.|$)", ".*", whole)
            alike[_verdict(block, part, width), spelt, shapes].append(whole)
    said: dict[str, list[str]] = defaultdict(list)
    for (why, spelt, shapes), names in alike.items():
        said[why].append(f"{names[0] if len(names) == 1 else spelt} ({shapes})")
    order = [FITTING, NO_LINEAR, OTHER_WIDTH.format(width), IN_ATTENTION]
    return "; ".join(f"{why}: {', '.join(said[why])}" for why in order if why in said)


def _matrices(module: nn.Module) -> str:
    return ", ".join(
        f"{name} {'x'.join(map(str, weight.shape))}"
        for name, weight in module.named_parameters(recurse=False)
        if weight.dim() > 1
    )


def _verdict(block: nn.Module, name: str, width: int) -> str:
    found = _output_width(block.get_submodule(name))
    if _within_attention(block, name):
        return IN_ATTENTION
    if found is None:
        return NO_LINEAR
    return FITTING if found == width else OTHER_WIDTH.format(width)


def _output_width(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear):
        return module.out_features
    # transformers' Conv1D keeps its output's width under this name.
    width = getattr(module, "nf", None)
    return width if isinstance(width, int) else None


def _within_attention(block: nn.Module, name: str) -> bool:
    """Return whether a module, or one that contains it, is named attention."""
    parts = name.split(".")
    holders = [
        type(block.get_submodule(".".join(parts[: end + 1]))).__name__
        for end in range(len(parts))
    ]
    words = [*parts[:-1], *holders]
    return any(sign in word.lower() for word in words for sign in ("attn", "attention"))


def _has_experts(block: nn.Module) -> bool:
    names = [
        f"{name} {type(module).__name__}" for name, module in block.named_modules()
    ]
    return any(sign in name.lower() for name in names for sign in ("expert", "moe"))


def _find_norm(model: PreTrainedModel, block: str) -> str:
    container, _, _ = block.partition(".{}")
    parent, _, last = container.rpartition(".")
    siblings = dict(model.get_submodule(parent).named_children())
    blocks = list(siblings).index(last)
    prefix = f"{parent}." if parent else ""
    norms = [name for name in siblings if _is_norm(siblings[name])]
    after = [name for name in norms if list(siblings).index(name) > blocks]
    return _the_one(model, "final_norm", [prefix + name for name in after or norms])


def _is_norm(module: nn.Module) -> bool:
    flat = all(each.dim() == 1 for each in module.parameters())
    return flat and "norm" in type(module).__name__.lower()


def _the_one(model: PreTrainedModel, part: str, names: list[str]) -> str:
    if len(names) != 1:
        raise _unclear(model, part, names)
    return names[0]


def _unclear(
    model: PreTrainedModel, part: str, names: list[str], why: str = ""
) -> ModelError:
    considered = ", ".join(names) if names else "nothing that could be it"
    reason = f"{why}; " if why else ""
    return ModelError(
        f"Models of type `{model.config.model_type}` are not known, and their "
        f"structure does not show the {part.replace('_', ' ')} ({reason}considered: "
        f"{considered}). Name it with the hyperparameter `{SETTLED_BY[part]}`, `{{}}` "
        "standing for the block's number."
    )
