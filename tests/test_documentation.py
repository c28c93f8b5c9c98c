"""What the documents tell a reader to open, to type and to set is there."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import click
import pytest
import typer

from server.config import default_run_config
from sims.cli.main import app
from tests.documents import (
    Document,
    broken_link,
    keys_set,
    make_targets,
    sims_arguments,
    slug_of,
)
from tests.trees import FOLDERS, ROOT

WRITTEN = (
    "*.md",
    "docs/**/*.md",
    "benchmarks/**/*.md",
    "sims/**/*.md",
    ".github/**/*.md",
)
DOCUMENTS = [Document(path) for glob in WRITTEN for path in sorted(ROOT.glob(glob))]
EXPECTED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/method.md",
    "docs/architecture.md",
    "docs/studies.md",
    "docs/evaluation.md",
)
COMMANDS = [words for document in DOCUMENTS for words in document.commands()]


def flat(table: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Yield a table's keys as Flower names them."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def unknown_word(command: click.Command, arguments: list[str]) -> str | None:
    """Name the first subcommand or option that the command line does not have."""
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in command.commands:
            return name
        command = command.commands[name]
    if command.context_settings.get("ignore_unknown_options"):
        return None
    options = {"--help", "-h"} | {
        name for each in command.params for name in each.opts + each.secondary_opts
    }
    given = (word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word))
    return next((word for word in given if word not in options), None)


def calls(meaning: Callable[[list[str]], object]) -> list[list[str]]:
    """List the documents' commands that mean something to a function."""
    return [words for words in COMMANDS if meaning(words)]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_documents_are_there(name: str) -> None:
    """Each is one that a reader looks for."""
    assert (ROOT / name).is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.path.name)
def test_links_lead_somewhere(document: Document) -> None:
    """To a file that exists, and to a heading in it."""
    assert [
        fault for link in document.links() if (fault := broken_link(document, link))
    ] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.path.name)
def test_named_paths_and_modules_exist(document: Document) -> None:
    """Code in backticks that begins with one of our folders is a file or an object.

    Unless the document tells the reader to create it.
    """
    for code in re.findall(r"`([^`\n]+)`", document.prose):
        if f"Create `{code}`" in document.prose:
            continue
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]*", code):
            assert (ROOT / code).exists(), code
        if re.fullmatch(rf"({'|'.join(FOLDERS)})(\.\w+)+", code):
            assert code in default_run_config() or resolves(code), code


def resolves(dotted: str) -> bool:
    """Tell whether a dotted name is a module or an attribute of one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        if not (ROOT / "/".join(parts[:cut])).with_suffix(".py").is_file():
            continue
        value: object = import_module(".".join(parts[:cut]))
        for name in parts[cut:]:
            value = getattr(value, name, None)
        return value is not None
    return (ROOT / "/".join(parts)).is_dir()


@pytest.mark.parametrize("words", calls(make_targets), ids=" ".join)
def test_make_has_the_targets(words: list[str]) -> None:
    """`make` would say so only after a newcomer tried."""
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    assert set(make_targets(words)) - targets == set()


@pytest.mark.parametrize("words", calls(sims_arguments), ids=" ".join)
def test_the_command_line_has_the_commands_and_options(words: list[str]) -> None:
    """And the scenarios that the documents name."""
    arguments = sims_arguments(words) or []
    assert unknown_word(typer.main.get_command(app), arguments) is None
    named = [Path(word) for word in arguments if word.startswith("sims/")]
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("words", calls(keys_set), ids=" ".join)
def test_flower_and_scenarios_know_the_keys(words: list[str]) -> None:
    """A scenario may also hold a merge's settings, which Flower would refuse."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = set(flat(project["tool"]["flwr"]["app"]["config"]))
    allowed = "merge." if sims_arguments(words) else "nothing"
    assert {key for key in keys_set(words) if not key.startswith(allowed)} <= known


def prerequisites(target: str) -> list[str]:
    """List what a target of the Makefile makes first."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{target}:([^#\n]*)", makefile, re.MULTILINE)
    assert found
    return found[1].split()


def test_the_hooks_before_a_commit_run_what_make_check_runs() -> None:
    """One list of checks, in one place."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: make (\S+)", hooks) == prerequisites("check")


def test_make_test_runs_every_check_once() -> None:
    """The rules are tests, and run among all the others."""
    checks = prerequisites("check")
    assert prerequisites("test") == [name for name in checks if name != "rules"]
    assert prerequisites("rules") == ["$(STAMP)"]


def test_planted_faults_are_found(tmp_path: Path) -> None:
    """The checks above see what they are for."""
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`, three!\n"
        "[a](#one-two-three) [b](#four) [c](page.md) [d](gone.md)\n"
        '<img src="gone.svg"> [e](https://example.org)\n\n'
        "```console\n$ cd x && make demo PYTHON=x; make tset\n# not a heading\n"
        ".venv/bin/python -m sims run --sett a=1 --set b.c=1 \\\n  --output x\n```\n"
        "`flwr run . --run-config 'rounds=2 merge.name=\"ties\"'`\n",
        encoding="utf-8",
    )
    document = Document(page)
    broken = [link for link in document.links() if broken_link(document, link)]
    assert broken == ["#four", "gone.md", "gone.svg"]
    commands = list(document.commands())
    assert [each for line in commands for each in make_targets(line)] == [
        "demo",
        "tset",
    ]
    assert [sims_arguments(line) for line in commands if sims_arguments(line)] == [
        ["run", "--sett", "a=1", "--set", "b.c=1", "--output", "x"]
    ]
    assert [each for line in commands for each in keys_set(line)] == [
        "b.c",
        "rounds",
        "merge.name",
    ]


def test_headings_become_the_fragments_that_github_makes() -> None:
    """Blanks become hyphens, one each, after the signs are gone."""
    assert (
        slug_of("How to add a merge, in five steps")
        == "how-to-add-a-merge-in-five-steps"
    )
    assert slug_of("`flwr run` & [you](x.md)") == "flwr-run--you"


def test_unknown_words_are_found() -> None:
    """In the command and in its options."""
    group = click.Group(
        commands={"run": click.Command("run", params=[click.Option(["--set"])])}
    )
    assert unknown_word(group, ["run", "a.toml", "--set", "x=1"]) is None
    assert unknown_word(group, ["run", "--sett=1"]) == "--sett"
    assert unknown_word(group, ["rum"]) == "rum"
