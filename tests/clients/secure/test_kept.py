"""A party keeps of secure sums what a plain sum would tell, of the last attempt."""

from pathlib import Path

import torch

from clients.secure.kept import OwnStatistics
from editing.algebra.statistics_files import (
    LAYER,
    PARTY,
    SUM,
    load_statistics,
    read_labels,
)
from editing.memit.pipeline import LayerPairs
from strategies.secure.records import MaskedRequest
from tests.laws import D_IN, D_OUT, assert_same, draw_pairs
from tests.summing import session_of

WIDTHS = (D_OUT, D_IN)


def asked(attempt: int = 0, number: int = 1, name: str = "layers 3") -> MaskedRequest:
    """Ask for a sum of three parties."""
    session = session_of(attempt, number)
    return MaskedRequest(session=session, sum=name, members=(0, 1, 2))


def test_rows_are_kept_under_a_rotation(tmp_path: Path) -> None:
    """Their sums are the party's; only a simulation repeats its rotation."""
    pairs = LayerPairs(*draw_pairs(4))
    found = []
    for place, seed in (("a", None), ("b", None), ("c", 7), ("d", 7)):
        OwnStatistics(tmp_path / place, 1, seed).keep(asked(), 3, WIDTHS, pairs)
        (path,) = (tmp_path / place / "round_001").iterdir()
        found.append(load_statistics(path, WIDTHS))
    for each in found:
        assert each.count == 4
        assert_same(each.gram, pairs.statistics.gram)
        assert_same(each.cross, pairs.statistics.cross)
        assert not torch.allclose(each.keys, pairs.keys)
    assert not torch.allclose(found[0].keys, found[1].keys)
    assert torch.equal(found[2].keys, found[3].keys)


def test_a_later_attempt_replaces_what_an_earlier_one_kept(tmp_path: Path) -> None:
    """Of the same round and sum alone; without an edit that is said, too."""
    own = OwnStatistics(tmp_path, 1)
    first, again = asked(), asked(attempt=1)
    for request in (first, asked(number=2), asked(name="targets"), again):
        own.keep(request, 3, WIDTHS, LayerPairs(*draw_pairs(2)))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    file = tmp_path / "round_001" / "layers_3.layer_3.party_1.safetensors"
    labels = {SUM: again.digest, LAYER: "3", PARTY: "1"}
    assert labels.items() <= read_labels(file).items()
    assert first.digest != again.digest
    own.keep(asked(attempt=2), 3, WIDTHS, None)
    assert load_statistics(file, WIDTHS).count == 0
