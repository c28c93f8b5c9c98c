"""Laws of shared prefixes: a part of a batch is what its rows are by themselves."""

import pytest
import torch

from editing.memit.search import prefix_cache, shared_prefixes
from editing.memit.search.full_rows import FullRows
from editing.memit.search.loss_positions import build_rows
from editing.memit.search.prefix_cache import FrozenPrefix, run_prefix
from editing.memit.search.shared_prefixes import run_parts
from editing.models.loading import EditableModel
from editing.models.token_rows import pad_rows
from tests.editing.memit.search.test_prefix_cache import MODELS
from tests.laws import assert_same
from tests.tiny import TEMPLATES, tiny_model, tiny_requests

PARTS = [[20, 3], [7, 5, 0, 11], [29]]


def assert_parts_same(model: EditableModel, layer: int, tolerance: float) -> None:
    """Compare each part, shifted, with its rows run by themselves."""
    built = build_rows(model, tiny_requests(), TEMPLATES)
    found = run_parts(model, built, PARTS, layer)
    for part, ours in zip(PARTS, found, strict=True):
        batch = pad_rows([built.rows[row] for row in part], model.device)
        alone = run_prefix(model, batch, layer)
        shift = torch.randn(len(part), 16, dtype=torch.float64)
        assert_same(ours.hidden, alone.hidden, tolerance)
        outputs = [each.run(model, each.shifted(shift))[0] for each in (ours, alone)]
        for row, width in enumerate((batch.lengths - batch.subjects).tolist()):
            assert_same(outputs[0][row, :width], outputs[1][row, :width], tolerance)


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"tuples"}))
def test_what_templates_share_is_run_once_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, layer: int
) -> None:
    """For other kinds of positions, too, and where attention slides."""
    model, tolerance = MODELS[name]
    lengths: list[int] = []
    run = prefix_cache.run_shared

    def counted(some: EditableModel, prefixes: torch.Tensor) -> object:
        lengths.append(prefixes.shape[1])
        return run(some, prefixes)

    monkeypatch.setattr(shared_prefixes, "run_shared", counted)
    monkeypatch.setattr(shared_prefixes, "WORTH", 1)
    assert_parts_same(model, layer, tolerance)
    assert len(lengths) >= 2, "templates of several lengths"


def test_passes_may_be_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """And are padded to the same columns afterwards."""
    monkeypatch.setattr(shared_prefixes, "PASS_TOKENS", 1)
    model, tolerance = MODELS["gpt2"]
    assert_parts_same(model, 1, tolerance)


def test_families_without_windows_are_run_on_whole_rows() -> None:
    """Part by part."""
    model = tiny_model("bloom")
    built = build_rows(model, tiny_requests(), TEMPLATES)
    found = run_parts(model, built, PARTS, 1)
    assert all(isinstance(each, FullRows) for each in found)
    assert [len(each.hidden) for each in found] == [2, 4, 1]


def test_a_part_has_no_more_columns_than_its_rows() -> None:
    """Whatever was run with them."""
    model, _ = MODELS["gpt2"]
    built = build_rows(model, tiny_requests(), TEMPLATES)
    for part, found in zip(PARTS, run_parts(model, built, PARTS, 1), strict=True):
        assert isinstance(found, FrozenPrefix)
        widths = [built.widths[row] for row in part]
        pasts = [built.rows[row].subject for row in part]
        assert found.hidden.shape[1] == max(widths)
        assert found.widths.tolist() == widths
        assert found.pasts.tolist() == pasts
        assert {keys.shape[2] for keys, _ in found.past.values()} == {max(pasts)}
