"""Laws of bundles: equal files make equal bytes, and a node runs what it approved."""

import hashlib
import io
import os
import shutil
import subprocess
import zipfile
from argparse import ArgumentTypeError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from flwr.clientapp.client_app import LoadClientAppError
from flwr.supernode.runtime import run_clientapp as flower

from editing.base.errors import InputError
from sims.processes.bundles import (
    build_bundle,
    digest_of,
    find_changed,
    find_installed,
    list_files,
    read_digest,
    refuse_others,
    run_only,
)
from tests.trees import ROOT

PROJECT = """
[project]
name = "probe"
version = "1.0.0"
description = "says where it is"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "tests"

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "clients.app:app"
"""
SERVER = "from flwr.serverapp import ServerApp\napp = ServerApp()\n"
CLIENT = "from flwr.clientapp import ClientApp\napp = ClientApp()\nNAME = {name!r}\n"
FILES = ("pyproject.toml", "server/app.py", "clients/app.py")


def write_app(folder: Path, name: str = "approved") -> Path:
    """Write an app of two modules."""
    texts = (PROJECT, SERVER, CLIENT.format(name=name))
    for file, text in zip(FILES, texts, strict=True):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


@dataclass
class Patched:
    """Flower's client module, whose names are put back after the test."""

    module: ModuleType
    home: Path


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Patched:
    """Lend Flower's client module and a home of its own."""
    for name in ("install_from_fab", "get_load_client_app_fn"):
        monkeypatch.setattr(flower, name, getattr(flower, name))
    home = tmp_path / "home"
    monkeypatch.setenv("FLWR_HOME", str(home))
    return Patched(flower, home)


def test_two_clones_make_one_bundle(tmp_path: Path) -> None:
    """Whatever their folders, the times of files, their modes and their order are."""
    listed = sorted(list_files(build_bundle(ROOT)))
    here, there = tmp_path / "here", tmp_path / "there" / "deeper"
    for folder, names in ((here, listed), (there, reversed(listed))):
        for number, name in enumerate(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
            (folder / name).chmod(0o600 if folder == here else 0o664)
            os.utime(folder / name, (number, 10**9 + number))
    shutil.copyfile(ROOT / ".gitignore", there / ".gitignore")
    (here / "results").mkdir()
    (here / "results" / "mine.py").write_text("not of the app")
    digests = {digest_of(build_bundle(folder)) for folder in (ROOT, here, there)}
    assert len(digests) == 1
    (there / "clients" / "app.py").write_text("another")
    assert digest_of(build_bundle(there)) not in digests


def test_a_bundle_lists_what_it_holds() -> None:
    """Each file with the SHA-256 of its bytes, as `sha256sum` prints it."""
    bundle = build_bundle(ROOT)
    files = list_files(bundle)
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        assert {*archive.namelist()} == {*files, ".info/CONTENT"}
        for name, digest in files.items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
    own = (ROOT / "clients" / "app.py").read_bytes()
    assert files["clients/app.py"] == hashlib.sha256(own).hexdigest()


@pytest.mark.process
def test_files_that_no_commit_has_are_named(tmp_path: Path) -> None:
    """Changed ones and new ones, of the bundle alone; without Git, none."""
    app = write_app(tmp_path / "app")
    assert find_changed(app, FILES) == []
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", *words], cwd=app, check=True)
    assert find_changed(app, FILES) == []
    write_app(app, "changed")
    (app / "clients" / "new.py").write_text("")
    (app / "notes.txt").write_text("no part of the app")
    found = find_changed(app, [*FILES, "clients/new.py"])
    assert found == ["clients/app.py", "clients/new.py"]


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "a" * 65, f"sha256:{'a' * 57}"])
def test_what_is_no_digest_is_refused(text: str) -> None:
    """Saying where to get one."""
    with pytest.raises(ArgumentTypeError, match="python -m sims bundle"):
        read_digest(text)


def test_a_digest_may_be_in_capitals() -> None:
    """Some programs print it so."""
    assert read_digest("AB" * 32) == "ab" * 32


def test_approved_bundles_alone_are_unpacked_and_loaded(
    patched: Patched, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another is named in one line, and nothing of it reaches the disk."""
    good = build_bundle(write_app(tmp_path / "good"))
    bad = build_bundle(write_app(tmp_path / "bad", "foreign"))
    run_only({digest_of(good), "0" * 64})
    with pytest.raises(LoadClientAppError, match=digest_of(bad)):
        patched.module.install_from_fab(bad, skip_prompt=True)
    (said,) = (each.getMessage() for each in caplog.records)
    assert f"--only-bundle {digest_of(bad)}" in said
    assert not patched.home.exists()
    place = patched.module.install_from_fab(good, skip_prompt=True)
    assert place.is_relative_to(patched.home / "approved" / digest_of(good))
    load = patched.module.get_load_client_app_fn(
        default_app_ref="", app_path=None, multi_app=True
    )
    with pytest.raises(LoadClientAppError, match="mismatch"):
        load("tests/other", "1.0.0", digest_of(good))


def test_an_unpacked_bundle_with_the_same_first_digits_is_not_loaded(
    patched: Patched, tmp_path: Path
) -> None:
    """Flower names folders after 8 digits, and leaves those that are there."""
    good = build_bundle(write_app(tmp_path / "good"))
    planted = patched.home / "apps" / f"tests.probe.1.0.0.{digest_of(good)[:8]}"
    write_app(planted, "planted")
    run_only({digest_of(good)})
    place = patched.module.install_from_fab(good, skip_prompt=True)
    assert "'approved'" in (place / "clients" / "app.py").read_text()
    assert find_installed(patched.home) == {planted.name: digest_of(good)[:8]}


def test_the_bytes_of_a_bundle_count() -> None:
    """One bit more is another bundle."""
    bundle = b"a bundle"
    assert refuse_others(bundle, {digest_of(bundle)}) == digest_of(bundle)
    with pytest.raises(LoadClientAppError):
        refuse_others(bundle + b"\0", {digest_of(bundle)})


@pytest.mark.parametrize(
    "text", ["tool = 1", "project = 1", f"a = {'[' * 9999}", "a = 1\na = 2", "a = {b.c"]
)
def test_a_folder_that_is_no_clone_is_refused_in_one_line(
    tmp_path: Path, text: str
) -> None:
    """Whatever its pyproject.toml says, and where there is no folder."""
    (tmp_path / "pyproject.toml").write_text(text)
    for folder in (tmp_path, tmp_path / "none", Path("~nobody-of-this-name/x")):
        with pytest.raises(InputError, match=r"^[^\n]+: is no clone of an app [^\n]+$"):
            build_bundle(folder)


def test_odd_types_in_a_project_are_refused(tmp_path: Path) -> None:
    """Each table in turn is a number, a text, a list or a date."""
    values = ("1", '"a"', "[1]", "[{a = 1}]", "1979-05-27")
    names = ["project", "tool", "tool.flwr", "tool.flwr.app"]
    names += ["tool.flwr.app.components", "tool.flwr.app.config"]
    (tmp_path / "code.py").touch()
    for name in names:
        kept = [each for each in PROJECT.split("\n\n") if f"[{name}" not in each]
        for value in values:
            text = "\n\n".join([f"{name} = {value}", *kept])
            (tmp_path / "pyproject.toml").write_text(text)
            with suppress(InputError):
                build_bundle(tmp_path)
