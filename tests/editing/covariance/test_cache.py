"""A covariance is computed once for what it depends on, and known by its bits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import editing.covariance.cache
import editing.covariance.texts
from editing.base.errors import InputError
from editing.covariance.cache import digest_covariance, find_covariance
from editing.covariance.covariance import (
    Covariance,
    CovarianceError,
    Provenance,
    compute_covariance,
    with_ridge,
)
from editing.covariance.files import save_covariance
from editing.models.loading import EditableModel
from tests.laws import assert_same, draw_prior
from tests.tiny import LAYERS, tiny_model

TEXT = ("Ada works for Acme Inc", "one day the harp was found in Oslo")


@pytest.fixture(scope="module")
def model() -> EditableModel:
    """Make one tiny model."""
    return tiny_model()


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a text, and turn to an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "text.txt"
    file.write_text("\n".join(TEXT))
    return str(file)


def test_what_is_computed_is_the_text_s_covariance_and_is_found_again(
    model: EditableModel, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit."""
    reported: list[int] = []
    first = find_covariance(model, LAYERS, None, text, "", reported.append)
    expected = with_ridge(compute_covariance(model, TEXT, LAYERS, "text.txt"))
    assert first.provenance == expected.provenance
    assert reported[-1] == expected.provenance.tokens

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(editing.covariance.cache, "compute_covariance", refuse)
    again = find_covariance(model, LAYERS, None, text, "")
    for layer in LAYERS:
        assert torch.equal(first.moments[layer], expected.moments[layer])
        assert torch.equal(again.moments[layer], expected.moments[layer])
    with pytest.raises(AssertionError, match="computed again"):
        find_covariance(model, LAYERS[:1], None, text, "")


@pytest.mark.parametrize("place", ["file/cache", "/proc/none"])
def test_a_cache_that_cannot_be_written_is_a_warning_before_the_text_is_read(
    model: EditableModel,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    place: str,
) -> None:
    """Hours of estimating are not lost at their end."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
    warned: list[bool] = []

    def note(*arguments: object, **named: object) -> Covariance:
        warned.append("cannot be kept in" in caplog.text)
        return compute_covariance(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(editing.covariance.cache, "compute_covariance", note)
    found = find_covariance(model, LAYERS, None, text, "")
    assert warned == [True]
    expected = with_ridge(compute_covariance(model, TEXT, LAYERS, "text.txt"))
    assert torch.equal(found.moments[1], expected.moments[1])
    assert "XDG_CACHE_HOME" in caplog.text


def test_a_disk_that_fills_meanwhile_is_a_warning(
    model: EditableModel,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The covariance is used all the same."""

    def fail(*_: object) -> None:
        raise CovarianceError("no room")

    monkeypatch.setattr(editing.covariance.cache, "save_covariance", fail)
    assert find_covariance(model, LAYERS, None, text, "").moments.keys() == {*LAYERS}
    assert "no room" in caplog.text


def test_a_damaged_file_in_the_cache_is_estimated_again(
    model: EditableModel, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And replaced."""
    first = find_covariance(model, LAYERS, None, text, "")
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    again = find_covariance(model, LAYERS, None, text, "")
    assert torch.equal(first.moments[1], again.moments[1])
    assert file.read_bytes() == whole
    assert "estimated again" in caplog.text


def test_a_fixed_number_of_threads_is_taken_and_kept_apart(
    model: EditableModel, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another number computed may differ in its last bits."""
    before, taken = torch.get_num_threads(), []

    def note(*arguments: object, **named: object) -> Covariance:
        taken.append(torch.get_num_threads())
        return compute_covariance(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(editing.covariance.cache, "compute_covariance", note)
    for threads in (None, 1, 2, None, 1, 2):
        find_covariance(model, LAYERS, None, text, "", threads=threads)
    assert taken == [before, 1, 2]
    assert torch.get_num_threads() == before


def test_what_another_kind_of_device_counted_is_kept_apart(
    model: EditableModel, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys and products are rounded in other places."""
    kinds: list[str] = []

    def count(model: EditableModel, *_: object, **__: object) -> Covariance:
        kinds.append(model.device.type)
        return Covariance({1: draw_prior()}, Provenance("", "x", 9))

    monkeypatch.setattr(editing.covariance.cache, "compute_covariance", count)
    for kind in ("cpu", "meta", "cpu", "meta"):
        monkeypatch.setattr(EditableModel, "device", torch.device(kind))
        find_covariance(model, LAYERS, None, text, "")
    assert kinds == ["cpu", "meta"]


def test_a_file_that_is_named_is_read_and_no_text_is(
    model: EditableModel, tmp_path: Path
) -> None:
    """As it stands."""
    named = Covariance({1: draw_prior()}, Provenance("", "x", 3))
    file = tmp_path / "own.safetensors"
    save_covariance(named, file)
    found = find_covariance(model, (1,), str(file), "/no/text", "")
    assert torch.equal(found.moments[1], named.moments[1])
    with pytest.raises(InputError, match=r"prior\.covariance.*JSON list"):
        find_covariance(model, (1,), "[1,", "/no/text", "")


def test_a_digest_is_of_the_moments_of_the_layers_to_the_last_bit() -> None:
    """Neither provenance nor order nor other layers count."""
    one, two = draw_prior(1), draw_prior(2)
    here, there = Provenance("a", "x", 3), Provenance("b", "y", 4)
    digest = digest_covariance(Covariance({1: one, 2: two}, here), (1, 2))
    same = Covariance({2: two.clone(), 1: one, 3: two}, there)
    assert digest_covariance(same, (2, 1)) == digest
    moved = torch.nextafter(two, two + 1)
    others = [
        digest_covariance(Covariance({1: one, 2: moved}, here), (1, 2)),
        digest_covariance(Covariance({1: two, 2: one}, here), (1, 2)),
        digest_covariance(Covariance({1: one, 2: two}, here), (1,)),
        digest_covariance(Covariance({1: one, 3: two}, here), (1, 3)),
    ]
    assert len({digest, *others}) == 5


def test_the_same_tokens_are_found_again_wherever_they_lie(
    model: EditableModel, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under another name, in another form, and with more text after the limit."""
    first = find_covariance(model, LAYERS, None, text, "", tokens=9)
    assert first.provenance.tokens == 9

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(editing.covariance.cache, "compute_covariance", refuse)
    lines = [json.dumps({"text": each}) for each in (*TEXT, "Hal lives in Rome")]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    again = find_covariance(
        model, LAYERS, None, str(tmp_path / "a.jsonl"), "", tokens=9
    )
    assert torch.equal(first.moments[1], again.moments[1])
    for tokens in (None, 8):
        with pytest.raises(AssertionError, match="computed again"):
            find_covariance(model, LAYERS, None, text, "", tokens=tokens)


def test_a_model_s_own_text_is_bounded_and_found_without_being_written_again(
    model: EditableModel, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no end of its own, and is known by weights and seed."""
    assert Path(text).exists()  # the cache is an empty one
    monkeypatch.setattr(editing.covariance.cache, "default_tokens", lambda *_: 200)
    found = find_covariance(model, LAYERS, None, "self", "")
    assert found.provenance.tokens == 200
    assert found.provenance.dataset == "self (seed 0)"

    def refuse(*_: object) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr(editing.covariance.texts, "sample_documents", refuse)
    again = find_covariance(model, LAYERS, None, "self", "")
    assert torch.equal(again.moments[2], found.moments[2])
    with pytest.raises(AssertionError, match="written again"):
        find_covariance(model, LAYERS, None, "self", "", tokens=100)


def test_a_ridge_is_logged(
    model: EditableModel, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the rank that made it necessary; the run's settings hold both."""
    found = find_covariance(model, LAYERS, None, text, "")
    tokens = found.provenance.tokens
    assert f"layer 2 over {tokens} tokens has rank {tokens} of 24" in caplog.text
    assert found.provenance.describe_ridges() == {
        "ranks": {"1": tokens, "2": tokens},
        "ridges": {str(k): found.provenance.ridges[k] for k in LAYERS},
    }
    assert "added to its diagonal. Name a text of 24 tokens or more." in caplog.text
    full = Provenance("", "x", 30, {1: 24}, {1: 0.0})
    assert full.describe_ridges() == {}


def test_directions_that_no_text_uses_are_logged(
    model: EditableModel,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The message does not recommend more text, which would not help."""
    moment = torch.diag(torch.tensor([1.0, 2.0, 0.0, 3.0, 0.0], dtype=torch.float64))
    counted = Covariance({1: moment}, Provenance("", "x", 30))
    monkeypatch.setattr(
        editing.covariance.cache, "compute_covariance", lambda *_, **__: counted
    )
    find_covariance(model, LAYERS, None, text, "")
    assert "rank 3 of 5: 2 directions are never used, and a ridge of" in caplog.text
    assert "tokens or more" not in caplog.text


def test_a_folder_of_published_statistics_is_found_through_a_run_s_setting(
    model: EditableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a file of another model in it is refused."""
    monkeypatch.setattr(model.model.config, "_name_or_path", "acme/tiny")
    folder = tmp_path / "acme_tiny" / "wikipedia_stats"
    folder.mkdir(parents=True)
    for layer in LAYERS:
        name = f"transformer.h.{layer}.mlp.c_proj_float32_mom2_100000.npz"
        arrays: dict[str, Any] = {
            "mom2.mom2": 20 * draw_prior(layer).numpy(),
            "mom2.count": np.array(20),
        }
        np.savez(folder / name, **arrays)
    for named in (tmp_path, folder):
        with pytest.raises(CovarianceError, match="5 wide"):
            find_covariance(model, LAYERS, str(named), "/no/text", "")
        with monkeypatch.context() as narrow:
            narrow.setattr(EditableModel, "widths", lambda *_: (5, 5))
            found = find_covariance(model, LAYERS, str(named), "/no/text", "")
        assert_same(found.moments[2], draw_prior(2))
    monkeypatch.setattr(model.model.config, "_name_or_path", "acme/other")
    with pytest.raises(CovarianceError, match="acme/other"):
        find_covariance(model, LAYERS, str(tmp_path), "/no/text", "")
