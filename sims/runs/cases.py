"""What a run leaves, moved and copied to its folder of results."""

import json
import shutil
from pathlib import Path

from editing.files.atomic import make_private, write_private
from editing.files.json_text import dump_json
from sims.errors import RunFailedError
from sims.runs.unfinished import FINISHED, RESOLUTIONS

OWN_STATISTICS = "own_statistics"
"""The folder of what simulated parties added to secure sums, if they kept it."""


def take_results(written: Path) -> None:
    """Move the files that the server wrote up to the folder that holds its folder.

    The server may be killed while it writes, so it writes to a folder inside an
    unfinished run, which is removed whole unless the job ends well.

    Raises:
        RunFailedError: If the server left no report.
    """
    if not any((written / name).is_file() for name in FINISHED):
        raise RunFailedError("the run ended well and left no report")
    for path in written.iterdir():
        path.rename(written.parent / path.name)
    written.rmdir()


def gather_cases(private: Path, folder: Path, rounds: int) -> None:
    """Copy the parties' case files to the results.

    In a simulation all parties belong to this user, and so do real nodes that were
    started for the run; elsewhere a case file stays with its party. The cases after the
    last round are written as MEMIT's evaluation does; after several rounds, the folder
    ``rounds`` holds those of each. Of several merges, each has a folder of its own. So
    it is with what the parties kept of secure sums.
    The folder of results then admits its owner alone, for cases hold requests.
    """
    for label, by_round in sorted(find_cases(private).items()):
        make_private(folder)
        place = folder / label if (folder / label).is_dir() else folder
        make_private(place)
        for number, lines in by_round.items():
            if rounds > 1:
                file = place / "rounds" / f"round_{number:03d}.jsonl"
                write_private(file, "".join(f"{line}\n" for line in lines))
            for line in lines if number == rounds else ():
                case = json.loads(line)
                text = dump_json(case, 1)
                write_private(place / f"case_{case['case_id']}.json", text)
    for path in sorted(private.glob("**/statistics/*/round_*/*.safetensors")):
        label, turn = path.parents[1].name, path.parent.name
        place = folder / label if (folder / label).is_dir() else folder
        write_private(place / OWN_STATISTICS / turn / path.name, path.read_bytes())
    if (private / RESOLUTIONS).is_file():
        shutil.copy(private / RESOLUTIONS, folder / RESOLUTIONS)


def find_cases(private: Path) -> dict[str, dict[int, list[str]]]:
    """Read the parties' cases: lines by label and round, in the order of parties."""
    files: dict[tuple[str, int, int], Path] = {}
    for path in private.glob("**/cases/*/round_*/party_*.jsonl"):
        number = int(path.parent.name.removeprefix("round_"))
        party = int(path.stem.removeprefix("party_"))
        files[path.parents[1].name, number, party] = path
    found: dict[str, dict[int, list[str]]] = {}
    for (label, number, _), path in sorted(files.items()):
        lines = path.read_text(encoding="utf-8").splitlines()
        found.setdefault(label, {}).setdefault(number, []).extend(lines)
    return found
