"""The class of a checkpoint as published, which may hold more than the text model.

Of a vision-language checkpoint ``AutoModelForCausalLM`` may load the text model alone,
under other names. The configuration names the class of the complete checkpoint.
"""

from collections.abc import Sequence

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from editing.sources.own_code import runs_own_code


def published_class(path: str) -> str | None:
    """Return the class that the configuration of a model names, if it names one."""
    named = list(_read_config(path).architectures or ())
    return str(named[0]) if named else None


def build_published(path: str, loaded: str) -> nn.Module | None:
    """Build the class of a complete checkpoint without any weights.

    Args:
        path: A folder or a hub name.
        loaded: The class that the library loaded from it.

    Returns:
        The model on torch's ``meta`` device; None if it is of the loaded class, or of
        one that the library does not have.
    """
    name = published_class(path)
    kind = None if name in {None, loaded} else getattr(transformers, str(name), None)
    # Of a file of others: the library has functions as well, and other classes.
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        return None
    with torch.device("meta"):
        model: nn.Module = kind(_read_config(path))
    return model


def _read_config(path: str) -> PreTrainedConfig:
    own = runs_own_code(path)
    config: PreTrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=own)
    return config


def without_published(path: str, loaded: str, names: Sequence[str]) -> list[str]:
    """Leave out the tensors of a checkpoint that belong to other parts of it.

    Args:
        path: A folder or a hub name.
        loaded: The class that the library loaded from it.
        names: Tensors that this class has no place for.

    Returns:
        Those that the class of the complete checkpoint has no place for either.
    """
    whole = build_published(path, loaded) if names else None
    if whole is None:
        return list(names)
    ends = {
        name[start:]
        for name in whole.state_dict()
        for start in [0, *(i + 1 for i, sign in enumerate(name) if sign == ".")]
    }
    return [name for name in names if name not in ends]
