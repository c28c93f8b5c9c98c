"""The command line lists every setting."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt

from editing.base.settings import Settings
from editing.editors.choice import EDITORS
from server.config import default_run_config
from sims.cli.main import main
from sims.cli.settings import Row, render_markdown, table_of, tables
from strategies.merges.choice import MERGES, find_merge
from tests.trees import ROOT


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


def test_the_command_lists_every_merge_with_what_it_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One row a merge, in the order of reports."""
    with pytest.raises(SystemExit):
        main(["merges"])
    shown = capsys.readouterr().out
    rows: dict[str, str] = {}
    for line in shown.partition("Papers are")[0].splitlines():
        first = next(iter(line.split()), "")
        name = first if first in MERGES else next(reversed(rows), "")
        rows[name] = f"{rows.get(name, '')} {line}"
    assert [name for name in rows if name] == list(MERGES)
    assert all(find_merge(name).paper[6:] in rows[name] for name in MERGES)
    assert "the sum of all" in rows["collabedit"]
    assert [name for name in MERGES if "a seed" in rows[name]] == ["dare", "della"]
    assert [name for name in MERGES if "the weight" in rows[name]] == ["karcher"]
    for word in ("density", "scale", "fusion", '"agreeing-mean"', "0.4"):
        assert word in rows["ties"]


def test_the_editors_are_listed_with_what_they_send(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each by its name, at the widths of a model."""
    with pytest.raises(SystemExit) as ended:
        main(["editors", "--model", "gpt2-xl", "--requests", "3"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for name in EDITORS:
        assert name in said
    assert "gpt2-xl" in said
