"""Shapes are read from configurations, and agree with the models themselves."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.models.loading import load_editable_model
from sims.sizes.shapes import PUBLISHED, ModelShape, read_shape
from tests.tiny import LAYERS


def test_a_shape_is_that_of_the_loaded_model(world: Path) -> None:
    """The number of parameters, the widths, and the layers of its own file."""
    model = load_editable_model(str(world))
    d_out, d_in = model.widths(LAYERS[0])
    count = sum(each.numel() for each in model.model.parameters())
    found = read_shape(str(world))
    assert found == ModelShape("model", count, d_out, d_in, tuple(LAYERS), 4)


def test_no_weights_are_read(world: Path, tmp_path: Path) -> None:
    """A configuration is enough, and layers may be named."""
    (tmp_path / "config.json").write_bytes((world / "config.json").read_bytes())
    named = read_shape(str(tmp_path), (0,))
    assert named.layers == (0,)
    assert named.parameters == read_shape(str(world)).parameters


@pytest.mark.parametrize(
    ("name", "billions", "widths", "count"),
    [
        ("gpt2-xl", 1.558, (1600, 6400), 5),
        ("gpt-j-6b", 6.051, (4096, 16384), 6),
        ("llama-3-8b", 8.030, (4096, 14336), 5),
        ("qwen2.5-7b", 7.616, (3584, 18944), 5),
    ],
)
def test_published_models_have_their_published_sizes(
    name: str, billions: float, widths: tuple[int, int], count: int
) -> None:
    """As their papers and cards give them, and the layers of their presets."""
    found = read_shape(name)
    assert name in PUBLISHED
    assert round(found.parameters / 1e9, 3) == billions
    assert (found.d_out, found.d_in) == widths
    assert len(found.layers) == count


def test_what_cannot_be_measured_is_refused(world: Path, tmp_path: Path) -> None:
    """With what was wanted instead."""
    with pytest.raises(InputError, match=r"--layers: \[99\].* 0 to 3"):
        read_shape(str(world), (99,))
    with pytest.raises(
        InputError, match=r"gpt2-xl, gpt-j-6b, llama-3-8b, qwen2\.5-7b, or a folder"
    ):
        read_shape(str(tmp_path), (0,))
