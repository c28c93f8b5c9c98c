"""The layout is as documented, the names are ours, and Flower finds the app."""

import ast
import io
import re
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.supercore.object_ref import validate
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.trees import (
    BUNDLED,
    FOLDERS,
    PRODUCT,
    ROOT,
    between_rooms,
    circles,
    functions,
    import_graph,
    imported,
    modules,
    name_of,
    parse,
    public,
    rooms,
)

LONGEST_FUNCTION, LONG_FUNCTION, LONGEST_MODULE = 60, 30, 400

LARGEST_ROOM = 12
"""Modules that a folder may hold: one subject, read in one go."""

PRESETS = sorted((ROOT / "editing" / "hyperparameters" / "presets").glob("*.toml"))
"""The data that travels with the code."""

TESTED_ELSEWHERE = {
    "editing/answers/pairs.py": "tests/editing/answers/test_gradients.py",
    "editing/answers/rule.py": "tests/editing/answers/test_standardised.py",
    "editing/base/errors.py": "tests/sims/cli/test_main.py",
    "editing/base/plugins.py": "tests/strategies/merges/test_choice.py",
    "editing/base/settings.py": "tests/editing/hyperparameters/test_config.py",
    "editing/editors/base.py": "tests/editing/editors/test_choice.py",
    "editing/malmen/settings.py": "tests/server/training/test_run.py",
    "editing/malmen/sums.py": "tests/editing/malmen/test_losses.py",
    "editing/malmen/holders.py": "tests/editing/malmen/test_trainer.py",
    "editing/memit/search/descent.py": "tests/editing/memit/test_targets.py",
    "editing/memit/search/parts.py": "tests/editing/memit/test_targets.py",
    "server/tables.py": "tests/server/test_config.py",
    "strategies/partitioning/settings.py": "tests/strategies/test_scenario.py",
    "strategies/rounds/callbacks.py": "tests/strategies/test_collaborative.py",
    "strategies/rounds/settings.py": "tests/strategies/test_collaborative.py",
    "strategies/rounds/tokens.py": "tests/strategies/test_over_rounds.py",
    "clients/secure/state.py": "tests/clients/secure/test_party.py",
    "strategies/secure/opening.py": "tests/clients/secure/test_party.py",
    "strategies/summing/plain.py": "tests/strategies/test_collaborative.py",
    "strategies/wire/names.py": "tests/strategies/wire/test_handshakes.py",
    "clients/training/replies.py": "tests/server/training/test_run.py",
    "strategies/training/nodes.py": "tests/server/training/test_run.py",
    "strategies/training/records.py": "tests/server/training/test_run.py",
    "server/training/progress.py": "tests/server/training/test_run.py",
    "server/report/markdown.py": "tests/server/report/test_data.py",
    "server/report/page.py": "tests/server/report/test_data.py",
    "server/report/plots.py": "tests/server/report/test_data.py",
    "server/report/tables.py": "tests/server/report/test_data.py",
}
"""Modules with public code and no test file of their own, and what tests them."""


@cache
def project() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def pins() -> dict[str, str]:
    """Read constraints.txt: the version of each distribution."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def declared(*, development: bool) -> list[Requirement]:
    """Read the ranges of the direct dependencies, and of what is optional."""
    table = project()["project"]
    extras = table["optional-dependencies"]
    chosen = [name for name in extras if development or name != "dev"]
    extra = [each for name in chosen for each in extras[name]]
    return [Requirement(each) for each in (*table["dependencies"], *extra)]


@pytest.mark.parametrize("name", FOLDERS)
def test_top_level_name_is_ours(name: str) -> None:
    """No installed distribution may provide or shadow our package names."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin == str(ROOT / name / "__init__.py")
    assert name not in packages_distributions()


@pytest.mark.parametrize("side", ["serverapp", "clientapp"])
def test_flower_finds_the_app(side: str) -> None:
    """Flower reads the syntax tree: ``app`` must be a plain assignment."""
    reference = project()["tool"]["flwr"]["app"]["components"][side]
    assert validate(reference, project_dir=ROOT) == (True, None)


@pytest.mark.process  # Flower takes a while to load
def test_the_bundle_carries_the_four_folders_whole_and_no_more() -> None:
    """Flower would pack every JSON and TOML file of the tree, and drop its own ones."""
    bundle = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(ROOT)))
    wanted = {name_of(path) for path in [*modules(*BUNDLED), *PRESETS]}
    apart = {"pyproject.toml", "README.md", "LICENSE", ".info/CONTENT"}
    assert set(bundle.namelist()) == wanted | apart


def test_bundled_folders_hold_python_and_presets_alone() -> None:
    """A file outside the bundle would be missing at every node."""
    files = [
        path
        for folder in BUNDLED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    others = [path for path in files if path.suffix != ".py"]
    assert sorted(others) == PRESETS != []


@pytest.mark.parametrize("room", rooms(*PRODUCT), ids=name_of)
def test_every_room_holds_at_most_a_dozen_modules(room: Path) -> None:
    """A larger room holds more than one subject."""
    held = [path for path in room.glob("*.py") if path.name != "__init__.py"]
    assert len(held) <= LARGEST_ROOM, [path.name for path in held]


def test_the_page_on_the_architecture_names_every_room() -> None:
    """The house on one screen, each room with what it holds."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = [f"`{name_of(room)}`" for room in rooms(*PRODUCT)]
    assert [name for name in names if name not in page] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Nor do rooms; imports inside functions count as well."""
    graph = import_graph(*PRODUCT)
    assert circles(graph) == []
    assert circles(between_rooms(graph)) == []


def test_planted_circles_are_found() -> None:
    """Of two, of three, and none where there is none."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [
        ["a", "b", "c"]
    ]
    shared = {"x.a.one": {"x.b.two"}, "x.b.two": set(), "x.b.three": {"x.a.one"}}
    assert circles(shared) == []
    assert circles(between_rooms(shared)) == [["x.a", "x.b"]]


def test_every_folder_is_a_package_and_holds_no_code_in_its_init() -> None:
    """Flower imports the parent package while it builds, before anything is checked."""
    folders = {path.parent for path in modules(*FOLDERS)}
    assert [
        name_of(each) for each in folders if not (each / "__init__.py").is_file()
    ] == []
    for path in (each / "__init__.py" for each in folders):
        body = parse(path).body
        assert len(body) == 1, name_of(path)
        assert ast.get_docstring(parse(path)), name_of(path)


@pytest.mark.parametrize("path", modules(*BUNDLED), ids=name_of)
def test_tests_mirror_the_tree(path: Path) -> None:
    """Who changes a module knows where its tests are."""
    mirror = ROOT / "tests" / path.relative_to(ROOT).with_name(f"test_{path.name}")
    excuse = TESTED_ELSEWHERE.get(name_of(path))
    assert mirror.is_file() != bool(excuse) or not public(path), name_of(mirror)
    assert excuse is None or (ROOT / excuse).is_file()


@pytest.mark.parametrize("path", modules(*FOLDERS), ids=name_of)
def test_modules_and_functions_are_short(path: Path) -> None:
    """A function fits a screen, and a module a sitting."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
    assert [place for place, lines in functions(path) if lines > LONGEST_FUNCTION] == []


def test_nine_in_ten_functions_are_under_thirty_lines() -> None:
    """Trees differ in their longest functions, not in their median."""
    lengths = [lines for path in modules(*FOLDERS) for _, lines in functions(path)]
    assert quantiles(lengths, n=10)[-1] < LONG_FUNCTION


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_import_is_declared(folder: str) -> None:
    """What is imported is a direct dependency, never a guest of another one."""
    ours = {*FOLDERS, *sys.stdlib_module_names}
    allowed = {
        canonicalize_name(each.name) for each in declared(development=folder == "tests")
    }
    extras = project()["project"]["optional-dependencies"]
    providers = packages_distributions()
    for path in modules(folder):
        tops = {name.partition(".")[0] for name in imported(parse(path))} - ours
        for top in tops:
            # An extra that is not installed is named after what it provides.
            own = [Requirement(each).name for each in extras.get(top, [])]
            found = {canonicalize_name(each) for each in providers.get(top, own)}
            assert found & allowed, f"{name_of(path)} imports {top}"


@pytest.mark.parametrize("path", modules(*FOLDERS), ids=name_of)
def test_nothing_is_pickled(path: Path) -> None:
    """Reading a pickle runs whatever its author wrote."""
    tree = parse(path)
    assert imported(tree) & {"pickle", "cloudpickle", "joblib", "shelve"} == set()
    calls = {
        ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
    }
    assert calls & {"torch.load", "torch.save"} == set()
    assert "allow_pickle=True" not in {
        ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.keyword)
    }


@pytest.mark.parametrize("requirement", declared(development=True), ids=str)
def test_pins_lie_in_the_declared_ranges(requirement: Requirement) -> None:
    """`make constraints` was run after the last change of a range."""
    pin = pins().get(canonicalize_name(requirement.name))
    assert pin is not None
    assert requirement.specifier.contains(pin)


def test_torch_is_pinned_for_every_build() -> None:
    """A CPU and a CUDA build of one release differ in a suffix only."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", pins()["torch"])
