"""The status of a run, for its operator."""

import json
import time
from datetime import datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from editing.base.errors import InputError
from server.monitoring.events import EVENTS, now_utc
from server.monitoring.status import PartyStatus, RunStatus, read_status
from server.monitoring.stream import BEAT_SECONDS
from server.output import UNFINISHED
from sims.runs.unfinished import CONNECTED, KEPT

WATCH_SECONDS = 2.0
"""How often the status of a watched run is computed."""

_MISSING = "–"


def find_events(folder: Path) -> Path:
    """Find a run's file of events by its folder, or by that of the unfinished run.

    Raises:
        InputError: If there is none.
    """
    for place in (folder.with_name(folder.name + UNFINISHED), folder):
        if (place / EVENTS).is_file():
            return place / EVENTS
        if place.is_dir() and place.name.endswith(UNFINISHED):
            raise InputError(
                f"{place}: the run has not recorded an event yet; try again in a "
                "minute. If nothing changes, see the output of the command that "
                "started it"
            )
    raise InputError(
        f"{folder}: there is no run here, and no unfinished one in {folder.name}"
        f"{UNFINISHED}; wanted a folder that holds {EVENTS}, such as "
        "results/collabedit/run_000"
    )


def show_status(folder: Path, console: Console, *, as_json: bool, watch: bool) -> bool:
    """Print the status of a run; if it is watched, again until the run ends.

    Args:
        folder: The run's, with or without ``.unfinished``.
        console: Where to print.
        as_json: Whether to print one JSON object a line instead of a table.
        watch: Whether to repeat until the run has ended.

    Returns:
        Whether the run is running and not silent, or has finished.
    """
    if as_json:
        return _follow_json(folder, console, watch=watch)
    path = find_events(folder)
    status = read_status(path)
    if not watch:
        console.print(describe(status, path.parent, now_utc()), crop=False)
        return is_well(status, now_utc())
    with Live(console=console, auto_refresh=False) as live:
        while True:
            path = find_events(folder)
            status = read_status(path)
            live.update(describe(status, path.parent, now_utc()), refresh=True)
            if not _is_under_way(status):
                return is_well(status, now_utc())
            time.sleep(WATCH_SECONDS)


def _follow_json(folder: Path, console: Console, *, watch: bool) -> bool:
    while True:
        status = read_status(find_events(folder))
        line = to_json(status, now_utc())
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        if not watch or not _is_under_way(status):
            return is_well(status, now_utc())
        time.sleep(WATCH_SECONDS)


def _is_under_way(status: RunStatus) -> bool:
    return status.state == "running" and not status.is_silent(now_utc())


def is_well(status: RunStatus, now: datetime) -> bool:
    """Return whether the run needs no attention."""
    return status.state != "failed" and not status.is_silent(now)


def to_json(status: RunStatus, now: datetime) -> str:
    """Return the status in one line, and whether the run is silent."""
    return json.dumps(
        {**status.model_dump(mode="json"), "silent": status.is_silent(now)},
        ensure_ascii=False,
    )


def describe(status: RunStatus, place: Path, now: datetime) -> Group:
    """Lay a status out for a terminal.

    Args:
        status: The run's.
        place: The folder that it was read from.
        now: The present time.
    """
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(status, now):
        facts.add_row(Text(name, style="dim"), Text(value))
    lines = [
        Text(line, style="bold red", no_wrap=True, overflow="ignore")
        for line in advise(status, place, now)
    ]
    return Group(facts, *([_lay_out(status, now)] if status.parties else []), *lines)


def _facts(status: RunStatus, now: datetime) -> list[tuple[str, str]]:
    state = "silent" if status.is_silent(now) else status.state
    facts = [("run", status.run), ("state", state)]
    if status.merge is not None:
        number = _MISSING if status.round is None else str(status.round)
        facts.append(("merge", status.merge))
        facts.append(("round", f"{number} of {status.rounds}"))
    if status.phase is not None:
        total = "" if status.total is None else f" of {status.total}"
        facts.append(("now", f"{status.phase}, {status.done}{total}"))
    facts.append(("parties", f"{_count_seen(status)} seen of {status.expected}"))
    facts.append(("started", _time(status.started, now)))
    if status.resumed is not None:
        facts.append(("resumed", _time(status.resumed, now)))
    facts.append(("updated", _time(status.updated, now)))
    return facts


def _count_seen(status: RunStatus) -> int:
    return sum(each.seen is not None for each in status.parties)


def _lay_out(status: RunStatus, now: datetime) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("party", "last seen", "last error"):
        table.add_column(heading, overflow="fold")
    for each in status.parties:
        seen = _MISSING if each.seen is None else _time(each.seen, now)
        table.add_row(Text(each.label), seen, Text(_error(each, now)))
    return table


def _error(party: PartyStatus, now: datetime) -> str:
    if party.error is None or party.error_time is None:
        return ""
    when = _time(party.error_time, now)
    return f"round {party.error_round}, {when}: {party.error}"


def _time(then: datetime, now: datetime) -> str:
    """Return a time, and how long ago that is."""
    ago = max(int((now - then).total_seconds()), 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if ago >= size or unit == "s":
            break
    return f"{then:%Y-%m-%d %H:%M:%S} UTC ({ago // size} {unit} ago)"


def advise(status: RunStatus, place: Path, now: datetime) -> list[str]:
    """Return what is wrong, if anything is, and what to do about it."""
    if status.state == "failed":
        return [f"The run failed: {status.reason}", how_to_resume(place)]
    if not status.is_silent(now):
        return []
    minutes = int((now - status.updated).total_seconds() / 60)
    return [
        f"The run has given no sign of life for {minutes} min (it should every "
        f"{BEAT_SECONDS:.0f} s): its server was probably stopped.",
        how_to_resume(place),
    ]


def how_to_resume(place: Path) -> str:
    """Return the command that resumes a stopped run."""
    if place.name.endswith(UNFINISHED) and (place / KEPT).is_file():
        command = f"python -m sims {_command(place)} --resume {place}{_nodes(place)}"
        return f"To resume it after the last completed round: {command}"
    return (
        "To resume it after the last completed round, start it again with the same "
        "settings, if they name an `output.checkpoint`."
    )


def _nodes(place: Path) -> str:
    """Return the option that names real nodes, if the run was started with them."""
    try:
        kept = json.loads((place / CONNECTED).read_text(encoding="utf-8"))
        return f" --connection {kept['connection']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _command(place: Path) -> str:
    """Return which of `run` and `compare` started the run."""
    try:
        kept = json.loads((place / KEPT).read_text(encoding="utf-8"))
        return "compare" if kept["run"]["compare"] else "run"
    except (OSError, ValueError, KeyError, TypeError):
        return "run"
