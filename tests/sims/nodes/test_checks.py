"""Laws of each check: silent where all is well, and an alarm where it is not."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sims.nodes.checks import (
    CLOSED,
    Answer,
    Finding,
    ask_control,
    check_bundles,
    check_certificates,
    check_clock,
    check_control,
    check_private,
    check_writable,
    count_alarms,
    seconds_ahead,
    unapproved,
    who_reads,
)
from sims.processes.credentials import make_credentials

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def answer(status: int = 403, ahead: float | None = 0.0) -> Answer:
    """Make a server's answer."""
    return Answer(status, ahead, None)


@contextmanager
def serving(status: int, clock: float) -> Iterator[str]:
    """Serve one answer to all requests, from a machine with another clock."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response_only(status)
            self.send_header("Date", formatdate(datetime.now(UTC).timestamp() + clock))
            self.end_headers()

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
        assert asked == ["/v1/control/list-runs"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("status", [200, 400, 405, 422, 500])
def test_whatever_answers_on_a_control_path_is_an_alarm(status: int) -> None:
    """Even with an error: another version of Flower may ask otherwise."""
    found = check_control("host:8000", answer(status))
    assert found.alarm
    assert "proxy-config" in found.text
    assert "--only-bundle" in found.text


@pytest.mark.parametrize("status", sorted(CLOSED))
def test_a_refusal_is_what_is_wanted(status: int) -> None:
    """By a proxy, or by a SuperLink with accounts."""
    assert not check_control("host:8000", answer(status)).alarm


@pytest.mark.parametrize(
    ("clock", "alarm"), [(0, False), (-60, True), (60, True), (-400, True)]
)
def test_a_clock_that_is_off_is_an_alarm(clock: int, *, alarm: bool) -> None:
    """It is compared with the server's, of which the date comes in whole seconds."""
    with serving(403, clock) as superlink:
        found = ask_control(superlink, None)
    assert found.ahead is not None
    assert abs(found.ahead + clock) < 4
    check = check_clock(found)
    assert check.alarm == alarm
    assert not alarm or ("ahead of" if clock < 0 else "slower than") in check.text


@pytest.mark.parametrize("text", [None, "", "yesterday"])
def test_a_server_without_a_date_leaves_the_clock_unchecked(text: str | None) -> None:
    """It says so."""
    assert seconds_ahead(0.0, text) is None
    assert "not checked" in check_clock(answer(ahead=None)).text


@pytest.mark.parametrize(
    ("server", "alarms"), [(None, 0), (300, 0), (31, 0), (29, 1), (0, 1), (-5, 1)]
)
def test_a_certificate_that_ends_within_a_month_is_an_alarm(
    tmp_path: Path, server: int | None, alarms: int
) -> None:
    """The server's as it shows it, and the node's copy of the authority's."""
    authority = make_credentials(tmp_path / "made", 0).authority
    now = datetime.now(UTC)
    ends = None if server is None else now + timedelta(days=server, hours=1)
    assert count_alarms(check_certificates(authority, ends, now)) == alarms
    later = now + timedelta(days=3650 - 10)
    assert count_alarms(check_certificates(authority, None, later)) == 1


def test_an_authority_that_cannot_be_read_is_an_alarm(tmp_path: Path) -> None:
    """Missing, or no certificate."""
    (odd := tmp_path / "odd.crt").write_text("no certificate")
    for file in (odd, tmp_path / "missing.crt"):
        (found,) = check_certificates(file, None, NOW)
        assert found.alarm


def test_a_folder_that_cannot_be_written_is_an_alarm(tmp_path: Path) -> None:
    """One that is not there yet is made when it is needed, if that can be done."""
    assert not check_writable("cache", tmp_path / "not" / "there").alarm
    assert list(tmp_path.iterdir()) == []
    (file := tmp_path / "file").touch()
    assert check_writable("cache", file / "below").alarm
    assert check_writable("cache", Path("/proc/collabedit")).alarm


@pytest.mark.parametrize(
    ("mode", "folder", "expected"),
    [
        (0o600, 0o755, []),
        (0o640, 0o755, ["its group"]),
        (0o644, 0o755, ["its group", "all users"]),
        (0o604, 0o755, ["all users"]),
        (0o644, 0o750, ["its group"]),
        (0o644, 0o700, []),
    ],
)
def test_a_file_is_private_if_it_or_a_folder_on_the_way_is(
    mode: int, folder: int, expected: list[str]
) -> None:
    """By the modes of both; what is above is open to all here."""
    with tempfile.TemporaryDirectory() as made:
        above = Path(made).resolve()
        above.chmod(0o755)
        if not all(each.stat().st_mode & 0o001 for each in above.parents):
            pytest.skip("the folder of temporary files is private")
        (place := above / "ward").mkdir()
        (file := place / "requests.jsonl").write_text("private")
        file.chmod(mode)
        place.chmod(folder)
        assert who_reads(file) == expected
        found = check_private("requests-path", file)
    assert found.alarm == bool(expected)
    assert not expected or f"chmod go-rwx {file}" in found.text


def test_a_private_file_that_is_not_there_is_an_alarm(tmp_path: Path) -> None:
    """The node's client would fail."""
    assert check_private("requests-path", tmp_path / "none.jsonl").alarm


A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("approved", "installed", "alarms"),
    [
        ((A,), {}, 0),
        ((B, A), {}, 0),
        ((A,), {"ours.aaaaaaaa": "aaaaaaaa"}, 0),
        ((), {}, 1),
        ((B,), {}, 1),
        ((A,), {"theirs.cccccccc": "cccccccc"}, 1),
        ((), {"theirs.cccccccc": "cccccccc"}, 2),
    ],
)
def test_code_that_is_not_approved_is_an_alarm(
    approved: tuple[str, ...], installed: dict[str, str], alarms: int
) -> None:
    """None at all, the clone's own, and what was unpacked here before."""
    assert count_alarms(check_bundles(approved, A, installed)) == alarms
    assert unapproved(approved, installed) == [
        name
        for name, first in installed.items()
        if first not in {a[:8] for a in approved}
    ]


def test_alarms_are_counted() -> None:
    """And nothing else."""
    assert count_alarms([Finding("x"), Finding("y", alarm=True)]) == 1
