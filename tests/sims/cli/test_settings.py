"""The command line lists every setting, and every preset."""

import re
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt

from editing.base.settings import Settings
from editing.hyperparameters.presets import preset_names, read_preset
from server.config import default_run_config
from sims.cli.main import main
from sims.cli.settings import Row, render_markdown, say_layers, table_of, tables
from tests.trees import ROOT


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


def test_the_page_lists_every_setting_as_its_class_has_it() -> None:
    """`python -m sims settings --markdown docs/settings.md` writes it."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == render_markdown()


def test_every_key_of_flower_is_a_setting_with_type_default_and_meaning() -> None:
    """And so is every key of a merge, of a node, and of a hyperparameter file."""
    rows = [row for table in tables() for row in table.rows]
    assert {row.key for row in rows} >= set(default_run_config())
    assert {row.key for row in rows} >= {"merge.density", "requests-path", "v_lr"}
    assert [row for row in rows if not (row.type and row.default and row.meaning)] == []


class Example(Settings):
    """What a table is for.

    More of it.

    Attributes:
        some_share: A share that goes
            over two lines.
        word: A word.
        sizes: Sizes.
    """

    some_share: Annotated[float, Field(ge=0, le=1)]
    word: Literal["one", "two"] | None = None
    sizes: tuple[PositiveInt, ...] | bool = (1, 2)


class Undocumented(Settings):
    """A setting without a meaning."""

    strength: float = 1.0


def test_a_table_says_what_its_class_says() -> None:
    """Types in words, defaults as TOML has them, meanings from the docstring."""
    found = table_of("[example]", Example, "example.")
    assert (found.title, found.purpose) == ("[example]", "What a table is for.")
    assert found.rows == (
        Row(
            "example.some-share",
            "number ≥ 0, ≤ 1",
            "required",
            "A share that goes over two lines.",
        ),
        Row("example.word", '`"one"`, `"two"`', "–", "A word."),
        Row(
            "example.sizes",
            "list of whole number > 0 or true or false",
            "[1, 2]",
            "Sizes.",
        ),
    )


def test_a_setting_without_a_meaning_is_found() -> None:
    """So none reaches the page unexplained."""
    with pytest.raises(LookupError, match=r"Undocumented\.strength has no meaning"):
        table_of("[undocumented]", Undocumented, "")


def test_the_command_shows_the_keys_that_hold_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All of them without a word, and a sentence where none does."""
    with pytest.raises(SystemExit):
        main(["settings", "density"])
    shown = capsys.readouterr().out
    assert "merge.density" in shown
    assert "parties.count" not in shown
    with pytest.raises(SystemExit):
        main(["settings", "no-such-key"])
    assert "No setting's key contains 'no-such-key'" in capsys.readouterr().out
