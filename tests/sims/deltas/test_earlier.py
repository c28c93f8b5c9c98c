"""Laws of several edits in one folder: the latest first, each is reverted exactly."""

from pathlib import Path

import pytest

from editing.algebra.deltas import Delta
from editing.algebra.fingerprints import fingerprint_model
from editing.base.errors import InputError
from sims.deltas.earlier import EARLIER, explain_earlier
from sims.deltas.export import apply_delta
from sims.deltas.record import FOLDER, EditRecord, read_record
from sims.deltas.revert import revert_delta
from tests.sims.homes import SECRET, Base, assert_same_bits, load, texts_of, weights


class Edits:
    """A base that is edited several times."""

    def __init__(
        self, folder: Path, family: str = "gpt2", dtype: str = "float32"
    ) -> None:
        """Begin with the unedited base."""
        self.folder, self.base = folder, Base(folder, family, dtype)
        self.places = [self.base.path]
        self.deltas: list[Path] = []

    def apply(self, scale: float, **options: object) -> EditRecord:
        """Add another delta to the latest folder."""
        number = len(self.places)
        delta: Delta = {n: scale * each for n, each in self.base.delta.items()}
        claim = fingerprint_model(load(self.places[-1], self.base.dtype))
        path = self.base.write_delta(delta, base=claim)
        self.deltas.append(path.rename(self.folder / f"{number}.safetensors"))
        output = self.folder / f"edited-{number}"
        model = str(self.places[-1])
        record = apply_delta(model, self.deltas[-1], output, **options)  # type: ignore[arg-type]
        self.places.append(output)
        return record


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_edits_are_reverted_exactly_in_the_reverse_order(
    tmp_path: Path, family: str, dtype: str
) -> None:
    """Each gives back the folder before it, bit for bit, down to the base."""
    edits = Edits(tmp_path, family, dtype)
    records = [edits.apply(scale) for scale in (1.0, 0.7, -0.3)]
    assert [record.carried for record in records] == [False, True, True]
    assert explain_earlier(records[0]) == ""
    assert "in this order both are exact" in explain_earlier(records[1])
    latest = edits.places[-1]
    for number in (3, 2, 1):
        restored = tmp_path / f"restored-{number}"
        found = revert_delta(latest, edits.deltas[number - 1], restored)
        assert found.exact
        assert_same_bits(weights(restored), weights(edits.places[number - 1]))
        left = read_record(restored)
        assert (None if left is None else left.delta) == (
            records[number - 2].delta if number > 1 else None
        )
        card = (restored / "README.md").read_text()
        assert ("is still in these weights" in card) == (number > 1)
        latest = restored
    assert not (latest / FOLDER).exists()


def test_another_order_is_refused_with_the_edit_to_revert_first(tmp_path: Path) -> None:
    """Subtracting the earlier delta would round."""
    edits = Edits(tmp_path)
    edits.apply(1.0)
    later = edits.apply(0.5)
    with pytest.raises(
        InputError, match=rf"before the delta {later.delta[:12]}…, .*fi"
    ):
        revert_delta(edits.places[-1], edits.deltas[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "bfloat16"}, "that one was written in float32, this folder is not"),
        ({"reversible": False}, "this edit itself cannot be"),
    ],
)
def test_apply_says_if_an_earlier_edit_cannot_be_reverted_exactly(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    """In its card too."""
    edits = Edits(tmp_path)
    edits.apply(1.0)
    record = edits.apply(0.5, **options)
    assert said in explain_earlier(record)
    assert explain_earlier(record) in (edits.places[-1] / "README.md").read_text()


def test_a_base_that_was_changed_after_its_edit_is_reported(tmp_path: Path) -> None:
    """What undoes that edit would put old values among new ones."""
    edits = Edits(tmp_path)
    edits.apply(1.0)
    model = load(edits.places[-1])
    model.get_parameter(next(iter(edits.base.delta))).add_(1.0)
    model.save_pretrained(edits.places[-1])  # type: ignore[operator]
    record = edits.apply(0.5)
    assert not record.carried
    assert "the base was changed after it" in explain_earlier(record)
    assert not (edits.places[-1] / FOLDER / EARLIER).exists()


def test_only_what_undoes_an_edit_is_carried(tmp_path: Path) -> None:
    """Another file in the folder may hold requests."""
    edits = Edits(tmp_path)
    edits.apply(1.0)
    (edits.places[-1] / FOLDER / "notes.txt").write_text(SECRET)
    edits.apply(0.5)
    assert SECRET not in texts_of(edits.places[-1])
