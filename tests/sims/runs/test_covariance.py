"""The commands that estimate a covariance and show one, on a model on disk."""

import io
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import sims.runs.covariance
from editing.base.errors import InputError
from editing.covariance.covariance import (
    Covariance,
    Provenance,
    compute_covariance,
    with_ridge,
)
from editing.covariance.estimation import UnfinishedError
from editing.covariance.files import load_covariance, save_covariance
from sims.cli.main import main
from sims.cli.options import parse_layers
from sims.runs.covariance import (
    EstimationOptions,
    Pace,
    estimate_to_file,
    following_tokens,
)
from tests.laws import draw_prior
from tests.tiny import LAYERS, WORDS, tiny_model
from tests.trees import ROOT

TEXTS = [" ".join((WORDS * 3)[number : 3 * number + 2]) for number in range(50)]

KILLED_MIDWAY = """
import os, signal, sys
import sims.runs.covariance
from sims.cli.main import main

note = sims.runs.covariance.Pace.note

def die(pace, done):
    note(pace, done)
    if done > 900:
        os.kill(os.getpid(), signal.SIGKILL)

sims.runs.covariance.Pace.note = die
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tiny model and a text."""
    folder = tmp_path_factory.mktemp("model")
    model = tiny_model(dtype=torch.float32)
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    (folder / "text.txt").write_text("\n".join(TEXTS))
    return folder


def arguments(folder: Path, output: Path, **changes: str) -> list[str]:
    """Say the command."""
    given = {
        "model": str(folder),
        "layers": "1,2",
        "text": str(folder / "text.txt"),
        "output": str(output),
        "batch-tokens": "100",
        "checkpoint-every": "150",
    } | changes
    return ["covariance", *(part for k, v in given.items() for part in (f"--{k}", v))]


def exit_code(*words: str) -> int:
    """Run the command line in this process."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    return int(caught.value.code or 0)


def test_the_command_s_file_is_the_text_s_covariance(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over so many tokens; the table says rank and speed, and no state stays."""
    output = tmp_path / "new" / "a.safetensors"
    assert exit_code(*arguments(folder, output, tokens="500")) == 0
    found = load_covariance([output], LAYERS)
    whole = tiny_model(dtype=torch.float32)
    expected = with_ridge(
        compute_covariance(whole, TEXTS, LAYERS, "text.txt", 100, limit=500)
    )
    assert found.provenance == expected.provenance
    for layer in LAYERS:
        assert torch.equal(found.moments[layer], expected.moments[layer])
    shown = capsys.readouterr()
    assert "500 tokens" in shown.out
    assert re.search(r"1 +24 +20\.8 +full +none", shown.out)
    assert re.search(r"500 tokens, \d+ tokens/s", shown.err)
    assert [each.name for each in output.parent.iterdir()] == [output.name]


def test_a_command_that_was_killed_goes_on_and_ends_with_the_same_bits(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process is killed for good, in the middle of its text."""
    output, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    words = arguments(folder, output, tokens="1777")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_MIDWAY, *words],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors.unfinished"]
    capsys.readouterr()
    with pytest.raises(UnfinishedError, match=r"tokens \(was 1777, now 1700\)"):
        estimate_to_file(
            EstimationOptions(
                str(folder),
                LAYERS,
                str(folder / "text.txt"),
                1700,
                batch_tokens=100,
                checkpoint_every=150,
            ),
            output,
        )
    assert "Going on" not in capsys.readouterr().err  # said of what is not refused
    assert exit_code(*words) == 0
    assert "Resuming" in capsys.readouterr().err
    assert exit_code(*arguments(folder, other, tokens="1777")) == 0
    assert output.read_bytes() == other.read_bytes()
    assert sorted(tmp_path.iterdir()) == [output, other]


def test_a_model_s_own_text_is_counted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seed is part of what is counted."""
    monkeypatch.setattr("editing.covariance.sampled_text.LONGEST_SAMPLE", 8)
    digests = []
    for number, seed in enumerate(("0", "0", "1")):
        output = tmp_path / f"{number}.safetensors"
        words = arguments(folder, output, text="self", tokens="300", seed=seed)
        assert exit_code(*words) == 0
        found = load_covariance([output], LAYERS)
        assert found.provenance.dataset == f"self (seed {seed})"
        assert found.provenance.tokens == 300
        digests.append(output.read_bytes())
    assert digests[0] == digests[1] != digests[2]


def test_too_few_tokens_get_a_ridge_that_is_shown_and_kept(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the rank, at once and when the file is looked at again."""
    output = tmp_path / "a.safetensors"
    assert exit_code(*arguments(folder, output, tokens="10")) == 0
    first = capsys.readouterr().out
    assert exit_code("covariance-info", str(output)) == 0
    assert capsys.readouterr().out == first
    assert "10, 14 short" in first
    assert "Ridge: 0.1 of the mean eigenvalue (trace / d_in)" in first
    model = tiny_model(dtype=torch.float32)
    assert f"Model: {model.fingerprint}, in float32" in first
    assert "SHA-256" in first


def test_directions_that_a_long_text_never_used_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are not short for want of tokens."""
    moment = torch.diag(torch.tensor([1.0, 2.0, 0.0, 3.0, 0.0], dtype=torch.float64))
    file = tmp_path / "a.safetensors"
    save_covariance(with_ridge(Covariance({1: moment}, Provenance("", "x", 30))), file)
    assert exit_code("covariance-info", str(file)) == 0
    shown = capsys.readouterr().out
    assert re.search(r"1 +5 +6\.0 +3, 2 never used +0\.12\s", shown)
    assert "else on the directions that no token used" in shown


def test_a_published_file_is_shown_by_its_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its rank is found; its model nobody wrote into it."""
    arrays: dict[str, Any] = {
        "mom2.mom2": 900 * draw_prior().numpy().astype(np.float32),
        "mom2.count": np.array(900),
    }
    file = tmp_path / "transformer.h.17.mlp.c_proj_float32_mom2_100000.npz"
    np.savez(file, **arrays)
    assert exit_code("covariance-info", str(file)) == 0
    shown = capsys.readouterr().out
    assert re.search(r"transformer\.h\.17\.mlp\.c_proj +5 +180\.0 +full +none", shown)
    assert "900 tokens" in shown
    assert "Model: not named" in shown


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layers": "1,x"}, "--layers '1,x': wanted distinct numbers"),
        ({"layers": "1,1"}, "--layers '1,1': wanted distinct numbers"),
        ({"layers": "1,9"}, r"[9] lie outside the model"),
        ({"text": "/no/text"}, "/no/text: cannot be read"),
        ({"text": "hub:"}, "`--text` 'hub:': wanted"),
        ({"model": "/no/model"}, "/no/model"),
    ],
)
def test_what_does_not_fit_is_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    reason: str,
) -> None:
    """And nothing is written."""
    output = tmp_path / "a.safetensors"
    assert exit_code(*arguments(folder, output, **changes)) == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_overwritten(folder: Path, tmp_path: Path) -> None:
    """What is there stays."""
    output = tmp_path / "a.safetensors"
    output.write_text("mine")
    with pytest.raises(InputError, match="never overwritten"):
        estimate_to_file(EstimationOptions(str(folder), LAYERS, "self"), output)
    assert output.read_text() == "mine"


@pytest.mark.parametrize("name", ["a.npz", "a", ".", "a.safetensors.npz"])
def test_a_file_that_would_not_be_read_again_by_its_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A file of ours called `.npz` would be taken for one of MEMIT's."""
    monkeypatch.setattr(sims.runs.covariance, "load_named", None)
    with pytest.raises(InputError, match=r"--output .* ends in \.safetensors, such as"):
        estimate_to_file(
            EstimationOptions("/no/model", LAYERS, "self"), tmp_path / name
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/proc/a.safetensors", "mine/a.safetensors"])
def test_a_place_that_admits_no_file_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A count of hours would be for nothing; `mine` is a file, and no folder."""
    (tmp_path / "mine").write_text("")
    monkeypatch.setattr(sims.runs.covariance, "load_named", None)
    with pytest.raises(InputError, match=r"--output .* no file can be written there"):
        estimate_to_file(
            EstimationOptions("/no/model", LAYERS, "self"), tmp_path / name
        )
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_layers_are_those_that_the_hyperparameters_edit(
    folder: Path, tmp_path: Path
) -> None:
    """Unless they are named; where nothing says which, the option is asked for."""
    wanted = tmp_path / "wanted.toml"
    wanted.write_text("[hyperparameters]\nlayers = [2]\n")
    options = EstimationOptions(
        str(folder), None, "self", tokens=200, hyperparameters=str(wanted)
    )
    assert list(estimate_to_file(options, tmp_path / "a.safetensors").moments) == [2]
    with pytest.raises(InputError, match="--layers"):
        estimate_to_file(
            EstimationOptions(str(folder), None, "self"), tmp_path / "b.safetensors"
        )


def test_layers_are_numbers() -> None:
    """In the order given."""
    assert parse_layers("3,4, 5") == (3, 4, 5)


def test_speed_and_time_left_leave_out_what_an_earlier_call_counted() -> None:
    """They begin with the first batch that is done."""
    now = [0.0]
    pace = Pace(10_000, clock=lambda: now[0])
    assert pace.left == "unknown"
    now[0] = 9.0
    pace.note(4000)
    assert pace.left == "unknown"
    now[0] = 19.0
    pace.note(5000)
    assert pace.speed == 100
    assert pace.left == "0:50"
    now[0] = 29.0
    pace.note(5000)
    assert pace.left == "1:40"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_says_tokens_speed_and_time_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bar on a terminal, as lines elsewhere."""
    monkeypatch.setattr(sims.runs.covariance, "LINE_SECONDS", 0)
    screen = io.StringIO()
    console = Console(
        file=screen, force_terminal=terminal, width=120, color_system=None
    )
    with following_tokens(console, 200) as tell:
        tell(50)
        tell(100)
    shown = screen.getvalue()
    assert "100/200" in shown
    assert re.search(r"\d+ tokens/s, \d+:\d\d left", shown)
    assert re.search(r"100 tokens, where the text ends, \d+ tokens/s\n", shown)
