"""Laws of the class of a whole checkpoint, of which the text model may be a part."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from editing.models.families import ModelError
from editing.models.loading import load_weights
from editing.models.published_class import (
    build_published,
    published_class,
    without_published,
)
from tests.sims.homes import Base
from tests.sims.seeing import Seeing

LOADED = {"qwen3_5": "Qwen3_5ForCausalLM", "mllama": "MllamaForCausalLM"}


@pytest.mark.parametrize("family", LOADED)
def test_the_whole_is_built_without_weights(tmp_path: Path, family: str) -> None:
    """Where the library loads a part; a class that is loaded whole is not built."""
    base = Seeing(tmp_path, family)
    assert published_class(str(base.path)) == base.kind
    whole = build_published(str(base.path), LOADED[family])
    assert type(whole).__name__ == base.kind
    assert whole is not None
    assert all(each.is_meta for each in whole.parameters())
    assert build_published(str(base.path), base.kind) is None


@pytest.mark.parametrize("family", LOADED)
def test_the_other_parts_of_a_checkpoint_are_not_surplus(
    tmp_path: Path, family: str
) -> None:
    """A tensor that the whole has no place for still is, and is refused by name."""
    base = Seeing(tmp_path, family)
    assert type(load_weights(str(base.path))).__name__ == LOADED[family]
    parts = [name for name in base.tensors() if "vis" in name]
    assert parts
    names = [*parts, "language_model.model.layers.9.mlp.up_proj.weight"]
    assert without_published(str(base.path), LOADED[family], names) == names[-1:]
    assert without_published(str(base.path), LOADED[family], []) == []


def test_surplus_of_a_text_model_stays_surplus(tmp_path: Path) -> None:
    """Its class is the whole."""
    base = Base(tmp_path, "llama")
    file = base.path / "model.safetensors"
    save_file(
        load_file(file) | {"more.weight": torch.ones(2, 2)}, file, {"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"1 surplus, first more\.weight"):
        load_weights(str(base.path))
