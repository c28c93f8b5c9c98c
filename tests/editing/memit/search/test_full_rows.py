"""Laws of whole rows: what windows say, for any family, at the cost of time."""

from dataclasses import replace

import pytest
import torch

from editing.memit.search.full_rows import FullRows
from editing.memit.search.prefix_cache import FrozenPrefix, run_prefix
from editing.models.loading import EditableModel
from tests.editing.memit.search.test_prefix_cache import (
    SINGLE,
    assert_windows_same,
    batch_of,
    shifts_for,
    whole_pass,
)
from tests.laws import assert_same
from tests.tiny import tiny_model


def without_windows(family: str) -> EditableModel:
    """Make a model whose blocks are only called as it calls them."""
    model = tiny_model(family)
    parts = model.architecture.model_copy(update={"windows": False})
    return replace(model, architecture=parts)


def prefix_of(model: EditableModel, layer: int = 1) -> FullRows:
    """Run the tests' rows."""
    found = run_prefix(model, batch_of(model), layer)
    assert isinstance(found, FullRows)
    return found


@pytest.mark.parametrize("family", ["bloom", "mpt", "falcon, with ALiBi", "gpt_neo"])
@pytest.mark.parametrize("layer", [0, 2, 3])
def test_a_shifted_row_is_that_of_a_whole_pass(family: str, layer: int) -> None:
    """Of families whose positions windows would not keep."""
    model = tiny_model(family)
    batch, prefix = batch_of(model), prefix_of(model, layer)
    shift = shifts_for(batch)
    with torch.no_grad():
        final, read = prefix.run(model, prefix.shifted(shift))
    assert torch.equal(read, final)
    assert_windows_same(batch, final, whole_pass(model, batch, layer, shift, 3), SINGLE)


@pytest.mark.parametrize("family", ["gpt2", "mistral", "gptj"])
@pytest.mark.parametrize("early", [None, 2, 0])
def test_whole_rows_and_windows_say_the_same(family: str, early: int | None) -> None:
    """Hidden states, outputs, the earlier one, and the gradient of a shift."""
    windows, whole = tiny_model(family), without_windows(family)
    batch = batch_of(whole)
    prefixes = (run_prefix(windows, batch, 1), prefix_of(whole))
    assert isinstance(prefixes[0], FrozenPrefix)
    gradients, outputs = [], []
    for model, prefix in zip((windows, whole), prefixes, strict=True):
        assert_same(prefix.hidden[:, 0], prefixes[0].hidden[:, 0], SINGLE)
        shift = shifts_for(batch).requires_grad_()
        final, read = prefix.run(model, prefix.shifted(shift), early)
        outputs.append((final[:, 0], read[:, 0]))
        (gradient,) = torch.autograd.grad(final[:, 0].sum() + read[:, 0].sum(), shift)
        gradients.append(gradient)
    for ours, theirs in zip(*outputs, strict=True):
        assert_same(ours, theirs, SINGLE)
    assert_same(gradients[0], gradients[1], SINGLE)


def test_rows_can_be_dropped_again_and_again() -> None:
    """Those that stay come out as before, in their new order."""
    model = without_windows("gpt2")
    prefix = prefix_of(model)
    shift = shifts_for(batch_of(model))
    final, _ = prefix.run(model, prefix.shifted(shift))
    kept = torch.tensor([20, 3, 7])
    few = prefix.among(kept).among(torch.tensor([2, 0]))
    again, _ = few.run(model, few.shifted(shift[kept[[2, 0]]]))
    assert_same(again, final[kept[[2, 0]]], SINGLE)
    assert_same(few.hidden, prefix.hidden[kept[[2, 0]]])
