"""A file of statistics comes back with its labels, for its owner alone."""

from pathlib import Path

import pytest
import torch

from editing.algebra.statistics import LayerStatistics
from editing.algebra.statistics_files import (
    LAYER,
    load_statistics,
    read_labels,
    save_statistics,
)
from editing.base.errors import InputError
from tests.laws import D_IN, D_OUT, draw_statistics


def test_statistics_and_labels_come_back(tmp_path: Path) -> None:
    """Bit for bit; without an edit there are no rows."""
    some, path = draw_statistics(3), tmp_path / "own.safetensors"
    none = LayerStatistics(some.keys[:0], some.residuals[:0], 0)
    for part in (some, none):
        save_statistics(part, path, {LAYER: "3"})
        found = load_statistics(path, (D_OUT, D_IN))
        assert torch.equal(found.keys, part.keys)
        assert torch.equal(found.residuals, part.residuals)
        assert (found.count, found.sums) == (part.count, None)
        assert read_labels(path)[LAYER] == "3"
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    """Missing, damaged, or of a layer of other widths."""
    path = tmp_path / "own.safetensors"
    for broken in (None, b"", b"x" * 100):
        if broken is not None:
            path.write_bytes(broken)
        with pytest.raises(InputError, match=r"own\.safetensors: holds no statistics"):
            read_labels(path)
        with pytest.raises(InputError, match=r"own\.safetensors: holds no statistics"):
            load_statistics(path, (D_OUT, D_IN))
    save_statistics(draw_statistics(3), path)
    with pytest.raises(InputError, match="it is of another model"):
        load_statistics(path, (D_OUT, D_IN + 1))
