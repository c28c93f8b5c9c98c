"""Where the cache is."""

from pathlib import Path

import pytest

from editing.files.caches import user_cache


def test_the_cache_is_where_the_system_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user may move all of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache().parent == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache().parent == tmp_path / "home" / ".cache"
