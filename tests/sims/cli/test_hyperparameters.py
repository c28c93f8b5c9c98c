"""The command line lists presets, and what each says."""

import re

import pytest

from editing.hyperparameters.presets import preset_names, read_preset
from sims.cli.hyperparameters import say_layers
from sims.cli.main import main


def shown_by(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command, and give what it shows without its line breaks."""
    with pytest.raises(SystemExit) as caught:
        main(["presets", *words])
    assert caught.value.code == 0
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def test_every_preset_is_a_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With layers, prior weight, learning rate and source."""
    monkeypatch.setenv("COLUMNS", "200")
    shown = shown_by(capsys)
    for name in preset_names():
        found = read_preset(name).parameters
        wanted = f"{name} {say_layers(found.layers)} {found.mom2_update_weight:g} "
        assert wanted in shown
    assert "gpt-j-6b 3–8 15000 0.5 kmeng01/memit: hparams/MEMIT/Eleu" in shown
    assert "gpt2-large 12 15000 (default) 0.5 zjunlp/EasyEdit: " in shown


@pytest.mark.parametrize("name", preset_names())
def test_one_preset_is_shown_whole(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Each published value, each source and the note; no default among them."""
    preset = read_preset(name)
    shown = shown_by(capsys, name)
    for words in (preset.model, preset.source, preset.note, *preset.sources.values()):
        assert re.sub(r"\s+", " ", words) in shown
    values = preset.parameters.model_dump(mode="json")
    for field, value in values.items():
        assert (f" {field} = {value}" in shown) == (field in preset.values)


def test_an_unknown_preset_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    """With the nearest name."""
    with pytest.raises(SystemExit) as caught:
        main(["presets", "gpt2_xl"])
    assert caught.value.code == 2
    assert "did you mean 'gpt2-xl'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layers", "said"),
    [((3, 4, 5), "3–5"), ((12,), "12"), ((1, 3), "1, 3"), ((1, 2), "1–2")],
)
def test_layers_without_gaps_are_said_by_their_ends(
    layers: tuple[int, ...], said: str
) -> None:
    """And others one by one."""
    assert say_layers(layers) == said
