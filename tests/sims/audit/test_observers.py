"""What an observer holds decides what it tells: of one party, under masks, nothing."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from editing.algebra.statistics import LayerStatistics, NormBounds
from server.kept_statistics import EVERYBODY, ByParty, KeptRound
from sims.audit.observers import PARTY, SUM, see_statistics
from sims.audit.scores import Success, measure
from strategies.secure.fixed_point import Words, decode
from strategies.secure.records import Form
from strategies.secure.vectors import LayerShape, Vectors, pack_layer, unpack_layer
from tests.summing import Sum, session_of

PARTIES, EDITS, GUESSES, DRAWS = 5, 4, 100, 8
SHAPE = LayerShape(3, 40, 5)
TESTS = ("span", "leverage")
SECRET = b"s" * 32


@pytest.fixture(autouse=True, scope="module")
def no_flush() -> Iterator[None]:
    """Save the time of waiting for the disk, which no law here is about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("editing.files.atomic.flush", lambda _: None)
        yield


def draw_keys(draw: int) -> Tensor:
    """Draw the keys of all guesses; the first are edited, each party's in turn."""
    generator = torch.Generator().manual_seed(draw)
    return torch.randn(GUESSES, SHAPE.d_in, dtype=torch.float64, generator=generator)


def own_rows(party: int) -> slice:
    """Which guesses a party edits."""
    return slice(party * EDITS, (party + 1) * EDITS)


def successes(parts: ByParty, keys: Tensor, observer: str) -> Iterator[Success]:
    """Test guesses against statistics, and measure each verdict."""
    kept = KeptRound({SHAPE.layer: parts})
    for seen in see_statistics([kept], SHAPE.layer, keys):
        if seen.observer == observer:
            edited = torch.zeros(GUESSES, dtype=torch.bool)
            whole = slice(0, PARTIES * EDITS)
            edited[whole if seen.party is None else own_rows(seen.party)] = True
            assert seen.verdict.test in TESTS
            yield measure(seen.verdict, edited)


@pytest.mark.parametrize("form", ["rows", "dense"])
def test_under_masks_the_server_tells_nothing_of_a_party_and_all_of_the_sum(
    tmp_path: Path, form: Form
) -> None:
    """Of what a party sends, an area of 0.5 and nothing named; without masks, of 1."""
    numbers, areas = range(PARTIES), list[float]()
    bits = SHAPE.bits(form, float(PARTIES * EDITS), NormBounds(20.0, 20.0))
    for draw in range(DRAWS):
        keys, one = draw_keys(draw), Sum(tmp_path, numbers, session_of(draw))
        one.ask_keys()
        one.ask_shares()
        asked = one.request(
            capacities=(EDITS,) * PARTIES, forms={SHAPE.layer: form}, bits=bits
        )
        residuals = torch.ones(EDITS, SHAPE.d_out, dtype=torch.float64)
        bare = {
            n: pack_layer((keys[own_rows(n)], residuals), SHAPE, asked, n, SECRET)
            for n in numbers
        }
        one.masked = {n: one.party(n).mask(asked, bare[n]) for n in numbers}
        one.ask_unmask()

        def read(vectors: Vectors, edits: int = EDITS) -> LayerStatistics:
            return unpack_layer(vectors, SHAPE, form, PARTIES * EDITS, edits)

        def read_masked(words: Mapping[str, Words]) -> LayerStatistics:
            return read({k: decode(w, bits[k], PARTIES) for k, w in words.items()})

        hidden = {n: read_masked(one.masked[n]) for n in numbers}
        for found in successes(hidden, keys, PARTY):
            assert found.recall == 0
            assert found.auc is not None
            areas.append(found.auc)
        shown = {n: read(bare[n]) for n in numbers}
        total = {0: read(one.open(asked), PARTIES * EDITS)}
        for parts, observer in ((shown, PARTY), (total, SUM)):
            for found in successes(parts, keys, observer):
                assert (found.recall, found.false_alarms, found.auc) == (1, 0, 1)
    assert len(areas) == DRAWS * PARTIES * len(TESTS)
    spread = torch.tensor(areas).std() / len(areas) ** 0.5
    assert abs(sum(areas) / len(areas) - 0.5) < 5 * max(float(spread), 0.01)


def test_of_a_kept_sum_the_server_is_tested_as_a_whole() -> None:
    """It holds no party's statistics, and the sum tells what it did before."""
    keys = draw_keys(0)
    edited = keys[: PARTIES * EDITS]
    residuals = torch.ones(len(edited), SHAPE.d_out, dtype=torch.float64)
    parts = {EVERYBODY: LayerStatistics.of_pairs(edited, residuals)}
    assert not list(successes(parts, keys, PARTY))
    assert next(successes(parts, keys, SUM)).recall == 1
