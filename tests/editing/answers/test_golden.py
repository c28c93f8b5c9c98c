"""UltraEdit and StableEdit against what their published programs computed."""

from dataclasses import dataclass, field
from functools import cached_property

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from editing.algebra.deltas import add_deltas, applied
from editing.answers.gradients import read_answers
from editing.answers.moments import Moments
from editing.answers.pairs import AnswerPairs
from editing.answers.rule import Given
from editing.answers.standardised import StandardisedRule
from editing.answers.texts import tokenize_answers
from editing.requests.edit_request import EditRequest
from tests.golden import FOLDER, Golden, load_golden, read_methods
from tests.laws import assert_same
from tests.trees import ROOT

FILE = ROOT / "tests" / "data" / "golden_editors" / "answers.safetensors"
LAYERS, SHAPE = (1, 2, 3), (128, 512)
RUN = read_methods()["ultraedit"]
ORDERS = RUN["order"]
"""The requests of each batch, by falling length."""

SUB_BATCH = RUN["sub_batch"]
"""Requests of a backward pass and an update of the moments."""

RULES = {
    "ultraedit": StandardisedRule(learning_rate=RUN["lr"], ridge=1.0),
    "stableedit": StandardisedRule(learning_rate=RUN["lr"], ridge=1.0, floor=1e-6),
}

READ, MOMENTS = 1e-5, 1e-5
"""Relative differences allowed to keys and gradients, and to moments."""

SOLVED = {"ultraedit": 1e-4, "stableedit": 1e-5}
"""To values and updates, given golden keys and gradients."""

END_TO_END = 1e-4
"""To updates from our own keys and gradients."""


@dataclass(frozen=True)
class Case:
    """The model, and what the programs computed."""

    golden: Golden = field(default_factory=lambda: load_golden(FOLDER))
    tensors: dict[str, Tensor] = field(default_factory=lambda: load_file(FILE))

    @cached_property
    def sizes(self) -> tuple[list[int], ...]:
        """Answer tokens of each request, by batch."""
        return tuple(
            [len(each.answer) for each in tokenize_answers(self.golden.model, own)]
            for own in map(self.requests, (0, 1))
        )

    def requests(self, batch: int) -> list[EditRequest]:
        """A batch, in the programs' order."""
        return [self.golden.requests[number] for number in ORDERS[batch]]

    def cuts(self, batch: int) -> list[int]:
        """Rows of each sub-batch."""
        sizes = self.sizes[batch]
        starts = range(0, len(sizes), SUB_BATCH)
        return [sum(sizes[start : start + SUB_BATCH]) for start in starts]

    def rows(self, name: str, batch: int) -> Tensor:
        """Rows being edits, as everywhere here; in float64."""
        editor, _, rest = name.partition(".")
        read = rest.startswith(("keys", "gradients"))
        owner = "ultraedit" if read and batch == 0 else editor
        return self.tensors[f"{owner}.batch{batch}.{rest}"].mT.double()

    def pairs(self, editor: str, batch: int) -> dict[int, AnswerPairs]:
        """The published keys and gradients."""
        return {
            k: AnswerPairs(
                self.rows(f"{editor}.keys.{k}", batch),
                self.rows(f"{editor}.gradients.{k}", batch),
            )
            for k in LAYERS
        }

    def moments(self, editor: str, batches: int) -> Moments:
        """Moments of published rows as the programs cumulate them."""
        total = Moments.zero(SHAPE, products=RULES[editor].whitens)
        for batch in range(batches):
            total = self.cumulated(editor, total, self.pairs(editor, batch), batch)
        return total

    def cumulated(
        self, editor: str, total: Moments, pairs: dict[int, AnswerPairs], batch: int
    ) -> Moments:
        """Add a batch sub-batch by sub-batch, and layer by layer within it."""
        products, unbiased = RULES[editor].whitens, editor == "ultraedit"
        for part in zip(*(self._cut(pairs[k], batch) for k in LAYERS), strict=True):
            for own in part:
                total += Moments.of_pairs(own, products=products, unbiased=unbiased)
        return total

    def read(self, batch: int, before: dict[str, Tensor]) -> dict[int, AnswerPairs]:
        """Read a batch as the programs do: the mean over each sub-batch."""
        weights = [1 / cut for cut in self.cuts(batch) for _ in range(SUB_BATCH)]
        model = self.golden.model
        with applied(before, model.model):
            return read_answers(model, self.requests(batch), LAYERS, weights=weights)

    def _cut(self, pairs: AnswerPairs, batch: int) -> list[AnswerPairs]:
        cuts = self.cuts(batch)
        both = zip(pairs.keys.split(cuts), pairs.gradients.split(cuts), strict=True)
        return [AnswerPairs(*each) for each in both]

    def delta(self, editor: str, batch: int, layer: int) -> Tensor:
        """A published update."""
        named = f"{editor}.batch{batch}"
        values = self.tensors[f"{named}.values.{layer}"].double()
        return values @ self.tensors[f"{named}.adj_keys.{layer}"].double().mT


@pytest.fixture(scope="module")
def case() -> Case:
    """Load the model and the numbers once."""
    return Case()


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("editor", RULES)
def test_keys_and_gradients_are_the_published_ones(
    case: Case, editor: str, batch: int
) -> None:
    """Of the mean over each sub-batch; batch 1 on the model edited with batch 0."""
    model = case.golden.model
    before = {
        model.weight_name(k): case.delta(editor, 0, k) for k in LAYERS if batch == 1
    }
    found = case.read(batch, before)
    for layer, own in case.pairs(editor, batch).items():
        assert_same(found[layer].keys, own.keys, READ)
        assert_same(found[layer].gradients, own.gradients, READ)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("editor", RULES)
def test_moments_are_the_published_ones(case: Case, editor: str, batch: int) -> None:
    """One normaliser for all layers, cumulated over batches."""
    found, named = case.moments(editor, batch + 1), f"{editor}.batch{batch}"
    assert found.count == int(case.tensors[f"{named}.count"])
    assert_same(found.mean, case.tensors[f"{named}.mean"], MOMENTS)
    assert_same(found.std, case.tensors[f"{named}.std"], MOMENTS)
    if f"{named}.gradient_scatter" in case.tensors:
        assert_same(found.scatter, case.tensors[f"{named}.gradient_scatter"], MOMENTS)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("editor", RULES)
def test_values_and_updates_are_the_published_ones(
    case: Case, editor: str, batch: int
) -> None:
    """Given published keys and gradients; StableEdit whitens in batch 1."""
    rule, pairs = RULES[editor], case.pairs(editor, batch)
    moments = {SHAPE: case.moments(editor, batch + 1)}
    statistics = rule.statistics(pairs, Given(moments))
    for layer, values in rule.values(pairs, Given(moments)).items():
        assert_same(
            values, case.rows(f"{editor}.values.{layer}", batch), SOLVED[editor]
        )
        if f"{editor}.batch{batch}.adj_keys.{layer}" in case.tensors:
            theirs = case.delta(editor, batch, layer)
            assert_same(rule.solve(layer, statistics[layer]), theirs, SOLVED[editor])


@pytest.mark.parametrize(("editor", "batches"), [("ultraedit", 2), ("stableedit", 1)])
def test_updates_from_texts_alone_are_the_published_ones(
    case: Case, editor: str, batches: int
) -> None:
    """End to end; whitening amplifies what float32 rounds, so it is left out."""
    rule, model, delta = RULES[editor], case.golden.model, dict[str, Tensor]()
    moments = Moments.zero(SHAPE, products=rule.whitens)
    for batch in range(batches):
        pairs = case.read(batch, delta)
        moments = case.cumulated(editor, moments, pairs, batch)
        statistics = rule.statistics(pairs, Given({SHAPE: moments}))
        solved = {k: rule.solve(k, each) for k, each in statistics.items()}
        for layer, update in solved.items():
            if f"{editor}.batch{batch}.adj_keys.{layer}" in case.tensors:
                assert_same(update, case.delta(editor, batch, layer), END_TO_END)
        named = {model.weight_name(k): each for k, each in solved.items()}
        delta = add_deltas(delta, named)


def test_unbiased_batches_do_not_pool(case: Case) -> None:
    """The published moments of UltraEdit are off the pooled ones by that alone."""
    pooled = Moments.zero(SHAPE)
    for own in case.pairs("ultraedit", 0).values():
        pooled += Moments.of_pairs(own)
    theirs = case.tensors["ultraedit.batch0.std"].double()
    assert_same(pooled.mean, case.tensors["ultraedit.batch0.mean"], MOMENTS)
    assert bool(torch.all(pooled.std < theirs * (1 + MOMENTS)))
    assert float((pooled.std - theirs).norm() / theirs.norm()) > 0.01
