"""What is said of a delta is what a general decomposition says."""

import hashlib
from pathlib import Path

import pytest
import torch

from editing.algebra.deltas import open_delta
from editing.base.errors import InputError
from sims.deltas.adapters import Rank, write_adapter
from sims.deltas.export import apply_delta
from sims.deltas.inspection import inspect_delta, show_report
from sims.deltas.revert import revert_delta
from tests.sims.homes import Base

DIGITS = 1e-5
"""Relative: what float32 leaves."""


def test_sizes_and_ranks_are_their_definitions(tmp_path: Path) -> None:
    """Norm, largest singular value, rank, rank of 99 % of the energy."""
    base = Base(tmp_path, rank=4)
    report = inspect_delta(base.delta_path)
    assert [each.name for each in report.updates] == sorted(base.delta)
    for each in report.updates:
        update = base.delta[each.name].double()
        values = torch.linalg.svdvals(update)
        shares = (values.square().cumsum(0) / values.square().sum()).tolist()
        assert each.shape == tuple(update.shape)
        assert each.norm == pytest.approx(float(update.norm()), rel=DIGITS)
        assert each.spectral_norm == pytest.approx(float(values[0]), rel=DIGITS)
        assert each.rank == 4
        first = next(i for i, share in enumerate(shares) if share >= 0.99)
        assert each.effective_rank == first + 1
        assert each.relative is None
    assert report.base_matches is None
    assert report.metadata["requests"] == 4
    assert report.fingerprint == open_delta(base.delta_path).fingerprint()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_against_a_model_sizes_are_relative_and_the_base_is_checked(
    tmp_path: Path, family: str
) -> None:
    """Whether it is the delta's or not."""
    base = Base(tmp_path, family)
    report = inspect_delta(base.delta_path, str(base.path))
    for each in report.updates:
        weight = base.load().get_parameter(each.name).double()
        ratio = float(base.delta[each.name].double().norm() / weight.norm())
        assert each.relative == pytest.approx(ratio, rel=DIGITS)
    assert report.base_matches is True
    base.write_delta(base="0" * 64)
    assert inspect_delta(base.delta_path, str(base.path)).base_matches is False
    base.write_delta(base=None)
    assert inspect_delta(base.delta_path, str(base.path)).base_matches is None


def test_a_runs_folder_stands_for_its_delta(tmp_path: Path) -> None:
    """Also of a comparison that has one; of several, one must be named."""
    base, run = Base(tmp_path), tmp_path / "run"
    (run / "ties").mkdir(parents=True)
    with pytest.raises(InputError, match="found none"):
        inspect_delta(run)
    one = run / "ties" / "delta.safetensors"
    one.write_bytes(base.delta_path.read_bytes())
    assert inspect_delta(run).file == str(one)
    (run / "global").mkdir()
    (run / "global" / "delta.safetensors").write_bytes(one.read_bytes())
    with pytest.raises(InputError, match=r"global/delta\.safetensors, ties/"):
        inspect_delta(run)


def test_a_delta_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    """Relative sizes would mean nothing."""
    base = Base(tmp_path)
    base.write_delta({name: each[1:] for name, each in base.delta.items()})
    with pytest.raises(InputError, match=r"is \(15, 24\)"):
        inspect_delta(base.delta_path, str(base.path))


def test_people_see_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets in metadata are text, not colours."""
    base = Base(tmp_path)
    base.write_delta(note="[bold]")
    show_report(inspect_delta(base.delta_path, str(base.path)))
    shown = capsys.readouterr().out
    for words in ("[bold]", "16 × 24", "99 % rank", "is the one", *base.delta):
        assert words in shown


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    """JSON has no such number; adapters and reverting refuse it as well."""
    base = Base(tmp_path)
    name = next(iter(base.delta))
    apply_delta(str(base.path), base.delta_path, tmp_path / "edited")
    base.delta[name][0, 0] = bad
    base.write_delta()
    (tmp_path / "edited" / "edit" / "record.json").unlink()
    out = tmp_path / "out"
    for work in (
        lambda: inspect_delta(base.delta_path),
        lambda: write_adapter(str(base.path), base.delta_path, out, Rank()),
        lambda: revert_delta(tmp_path / "edited", base.delta_path, out),
    ):
        with pytest.raises(InputError, match="NaN or infinite"):
            work()
    assert not out.exists()


def test_the_digest_is_that_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `sha256sum` prints it, so that it can be published; equal deltas have one."""
    base = Base(tmp_path)
    digest = hashlib.sha256(base.delta_path.read_bytes()).hexdigest()
    report = inspect_delta(base.delta_path)
    assert report.sha256 == digest
    show_report(report)
    assert digest in capsys.readouterr().out
    reversed_delta = dict(reversed(base.delta.items()))
    base.write_delta(reversed_delta)
    assert inspect_delta(base.delta_path).sha256 == digest
