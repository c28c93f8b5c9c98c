"""The commands that list every setting and every merge, read from their classes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # pydantic's models are slow to make
    from editing.base.settings import Settings

app = typer.Typer()


INTRODUCTION = """\
# Settings

Every setting with its type, its default and its meaning. This page is generated from
the settings classes by `python -m sims settings --markdown docs/settings.md`; a test
compares it with them.

A scenario is a TOML file with the tables below. Set a key on the command line with
`--set TABLE.KEY=VALUE`, or with Flower's `--run-config 'TABLE.KEY=VALUE'`. Flower takes
lists as JSON texts, and the settings of a merge or an editor as one JSON object:
`merge.settings='{"density": 0.3}'`. A default of – means unset.
"""

ENTRY = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: its key, its type in words, its default, and what it means."""

    key: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """The settings of one table, and what the table is for."""

    title: str
    purpose: str
    rows: tuple[Row, ...]


@app.command("settings")
def list_settings(
    word: Annotated[
        str | None,
        typer.Argument(metavar="[WORD]", help="Show only keys that contain this word."),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the page as Markdown instead."),
    ] = None,
) -> None:
    """List every setting with its type, its default and its meaning."""
    if markdown is not None:
        from editing.files.atomic import write_whole

        write_whole(markdown, render_markdown())
        return
    from sims.console import open_console

    lines = [
        f"{row.key}  ({row.type}; default {row.default})\n    {row.meaning}"
        for table in tables()
        for row in table.rows
        if word is None or word in row.key
    ]
    text = "\n".join(lines) or f"No setting's key contains {word!r}."
    open_console().print(text, highlight=False, markup=False)


@app.command("merges")
def list_merges() -> None:
    """List every merge: its paper, what it needs of the parties, its settings."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Shown

    from sims.console import open_console
    from strategies.merges.choice import MERGES, find_merge

    table = Shown(box=SIMPLE_HEAD)
    for head in ("Merge", "What it does", "Paper", "Needs", "Settings"):
        table.add_column(head, no_wrap=head in {"Merge", "Paper", "Needs"})
    for name in MERGES:
        merge = find_merge(name)
        needs = {"sum": "the sum of all", "each": "each party's"}[merge.needs]
        also = {"a seed": merge.draws, "the weight": merge.reads_weight}
        wanted = [needs, *(word for word, needed in also.items() if needed)]
        table.add_row(
            name,
            purpose_of(merge).replace("``", ""),
            merge.paper.removeprefix("arXiv:"),
            ", ".join(wanted),
            say_defaults(merge),
        )
    console = open_console()
    console.print(table)
    console.print(
        "Papers are arXiv numbers. A merge that needs the sum alone can run under "
        "secure sums. `global` is no merge: it lays all requests at one party. "
        "docs/settings.md explains the settings, docs/method.md the equations.",
        highlight=False,
        markup=False,
    )


@app.command("editors")
def list_editors(
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|DIR",
            help="The model whose widths count: gpt2-xl, gpt-j-6b, llama-3-8b, "
            "qwen2.5-7b, a folder with a config.json, or embedded.",
        ),
    ] = "gpt-j-6b",
    requests: Annotated[
        int, typer.Option(min=1, help="Requests of a party in a round.")
    ] = 10,
) -> None:
    """List every editor: its paper, what it reads, what a party sends in a round."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Shown

    from sims.console import open_console
    from sims.sizes.by_editor import ANSWER_TOKENS
    from sims.sizes.editors import list_editors as sizes_of
    from sims.sizes.shapes import read_shape
    from sims.sizes.tables import write_size

    shape = read_shape(model)
    table = Shown(box=SIMPLE_HEAD)
    for head in ("Editor", "What it does", "Paper", "Needs", "Exchanges", "Sent up"):
        table.add_column(head, no_wrap=head != "What it does")
    for each in sizes_of(shape, requests):
        table.add_row(
            each.name,
            each.editor.summary,
            each.editor.paper.removeprefix("arXiv:"),
            each.reads,
            str(each.exchanges),
            write_size(each.bytes_up),
        )
    console = open_console()
    console.print(table)
    console.print(
        f"Exchanges and bytes of a party in a round of {requests} requests at the "
        f"widths of {model}, layer by layer, {ANSWER_TOKENS} tokens an answer. Papers "
        "are arXiv numbers. docs/editors.md has the equations and says when to choose "
        "which.",
        highlight=False,
        markup=False,
    )


def say_defaults(config: "type[Settings]") -> str:
    """Write the settings of a class with their defaults, all but its name."""
    values = {
        name.replace("_", "-"): field.get_default(call_default_factory=True)
        for name, field in config.model_fields.items()
        if name != "name"
    }
    return ", ".join(f"{key} = {say_value(value)}" for key, value in values.items())


def render_markdown() -> str:
    """Write all tables as one page."""
    parts = [INTRODUCTION]
    for table in tables():
        parts.append(f"\n## {table.title}\n\n{table.purpose}\n")
        parts.append(
            "\n| key | type | default | meaning |\n| :-- | :-- | :-- | :-- |\n"
        )
        parts += [
            f"| `{row.key}` | {_cell(row.type)} | {_cell(row.default)} | "
            f"{_cell(row.meaning)} |\n"
            for row in table.rows
        ]
    return "".join(parts)


def tables() -> Iterator[Table]:
    """Yield the tables of a scenario, then what merges, nodes and editors take."""
    from clients.settings import NodeConfig
    from editing.editors.choice import EDITORS, find_editor
    from editing.hyperparameters.config import Hyperparameters
    from server.config import RunConfig
    from strategies.merges.choice import known_names, read_merge

    for name, field in RunConfig.model_fields.items():
        config = field.annotation
        assert isinstance(config, type)
        yield table_of(f"[{name}]", config, f"{name}.")
    for name in known_names():
        merge = type(read_merge(name))
        if set(merge.model_fields) - {"name"}:
            yield table_of(f"The merge `{name}`", merge, "merge.", leave_out={"name"})
    common = {"name", "post"}
    for name in EDITORS:
        editor = find_editor(name)
        if set(editor.model_fields) - common:
            title = f"The editor `{name}`"
            yield table_of(title, editor, "editor.", leave_out=common)
    yield table_of("A node's configuration", NodeConfig, "")
    yield table_of("Hyperparameter files", Hyperparameters, "", kebab=False)


def table_of(
    title: str,
    config: "type[Settings]",
    prefix: str,
    *,
    kebab: bool = True,
    leave_out: frozenset[str] | set[str] = frozenset(),
) -> Table:
    """Describe the fields of one settings class.

    Args:
        title: The table's heading.
        config: The class. Meanings come from the `Attributes` of its docstring and of
            those of its bases.
        prefix: The prefix of each key.
        kebab: Whether keys have hyphens in the place of underscores.
        leave_out: Fields that are no settings.

    Raises:
        LookupError: If a field has no meaning.
    """
    meanings = meanings_of(config)
    properties = config.model_json_schema()["properties"]
    rows = []
    for name, field in config.model_fields.items():
        if name in leave_out:
            continue
        if name not in meanings:
            raise LookupError(
                f"{config.__name__}.{name} has no meaning in `Attributes`"
            )
        key = prefix + (name.replace("_", "-") if kebab else name)
        default = (
            "required"
            if field.is_required()
            else say_value(field.get_default(call_default_factory=True))
        )
        rows.append(Row(key, say_type(properties[name]), default, meanings[name]))
    return Table(title, purpose_of(config), tuple(rows))


def purpose_of(config: type) -> str:
    """Return the first sentence of a class's docstring."""
    return cleandoc(config.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def meanings_of(config: type) -> dict[str, str]:
    """Read the `Attributes` of a class and of its bases, the class's own first."""
    found: dict[str, str] = {}
    for each in reversed(config.__mro__):
        _, _, listed = cleandoc(each.__doc__ or "").partition("Attributes:\n")
        for name, text in ENTRY.findall(listed):
            found[name] = " ".join(text.split())
    return found


def say_value(value: object) -> str:
    """Write a default as a TOML file has it; – for what is unset."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(say_value, value))}]"
    if isinstance(value, dict):
        return "{}" if not value else str(value)
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


def say_type(schema: dict[str, object]) -> str:
    """Describe in words what a JSON schema admits."""
    options = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(options, list):
        said = [say_type(each) for each in options if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(said))
    for word in ("enum", "const"):
        if word in schema:
            values = schema[word]
            listed = values if isinstance(values, list) else [values]
            return ", ".join(f"`{say_value(each)}`" for each in listed)
    if schema.get("type") == "array":
        items = schema.get("items", schema.get("prefixItems"))
        return f"list of {say_type(items)}" if isinstance(items, dict) else "list"
    names = {"string": "text", "boolean": "true or false", "object": "table"}
    names |= {"integer": "whole number", "number": "number"}
    return names.get(str(schema.get("type")), "value") + _bounds(schema)


def _bounds(schema: dict[str, object]) -> str:
    signs = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
    }
    said = [
        f"{sign} {schema[word]:g}" for word, sign in signs.items() if word in schema
    ]
    return f" {', '.join(said)}" if said else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
