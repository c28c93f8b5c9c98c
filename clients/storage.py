"""The private folder of a run: what a party keeps and never sends."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from flwr.app import Context
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from clients.selection import Asked
from clients.settings import Kept
from clients.target_cache import TargetCache
from editing.files.atomic import make_private, write_private
from editing.files.json_text import dump_json
from editing.files.lock import locked
from editing.memit.pipeline import inputs_to_keep
from editing.models.activations import BlockInputs, Relay
from editing.models.loading import EditableModel
from strategies.conflicts.records import Resolution
from strategies.wire.messages import Job

Distances: TypeAlias = dict[tuple[int, int], tuple[float, float]]
"""By party and place, ``‖z − h‖`` and ``‖z − h‖ / ‖h‖``."""


@dataclass(frozen=True, slots=True)
class PrivateFolder:
    """Targets, case files and resolutions of one run, readable by their owner alone."""

    path: Path

    @classmethod
    def of_run(cls, context: Context) -> "PrivateFolder":
        """Return the run's folder, under the first of these that is set.

        The node's ``private-folder``, the environment's ``COLLABEDIT_HOME``, and
        ``collabedit`` in Flower's home. It is named after ``run.name`` or, without
        one, the run's number: a run that is resumed has two numbers.
        """
        flower = os.environ.get("FLWR_HOME") or str(Path.home() / ".flwr")
        home = os.environ.get("COLLABEDIT_HOME") or str(Path(flower) / "collabedit")
        chosen = context.node_config.get("private-folder", home)
        name = str(context.run_config.get("run.name") or context.run_id)
        return cls(Path(str(chosen)) / _plain(name))

    def targets(self, shared: Path | None = None) -> TargetCache:
        """Return the cache of targets: with the run, and in a folder that runs share.

        Clearing the shared folder stops no run.
        """
        self._make()
        second = None if shared is None else TargetCache(shared)
        return TargetCache(self.path / "targets", second)

    def keep_distances(self, job: Job, party: int, found: Distances) -> None:
        """Keep the distances of a round's targets, for the case files."""
        lines = [[*whose, norm, ratio] for whose, (norm, ratio) in found.items()]
        self._write(self._distances(job, job.round, party), dump_json(lines).encode())

    def find_distances(self, job: Job, party: int) -> dict[int, Distances]:
        """Return the distances of the rounds so far, by round."""
        found: dict[int, Distances] = {}
        for number in range(1, job.round + 1):
            file = self.path / self._distances(job, number, party)
            if file.is_file():
                lines = json.loads(file.read_text())
                found[number] = {(p, i): (norm, ratio) for p, i, norm, ratio in lines}
        return found

    def keep_resolutions(
        self,
        job: Job,
        party: int,
        asked: Sequence[Asked],
        resolutions: Sequence[Resolution],
    ) -> None:
        """Write the resolutions of the party's duplicate and conflicting requests.

        Those of an earlier attempt at this round are replaced: the round started again
        without another party, or the run resumed after an earlier round.
        ``resolutions.jsonl`` has those of all rounds so far, each once.

        Args:
            job: Says which round it is.
            party: The party's number.
            asked: The requests of all rounds so far.
            resolutions: The server's, of some of them.
        """
        lines = [line + "\n" for line in _describe(asked, resolutions)]
        folder = self.path / "resolutions"
        before = [
            file
            for file in folder.glob(f"round_*/party_{party}.jsonl")
            if _place_of(file)[0] >= job.round
        ]
        if not lines and not before:
            return
        self._make()
        make_private(folder)
        with locked(folder / ".lock"):  # nodes of a simulation share the folder
            for file in before:
                file.unlink(missing_ok=True)
            if lines:
                own = folder / f"round_{job.round}" / f"party_{party}.jsonl"
                write_private(own, "".join(lines).encode())
            files = sorted(folder.glob("round_*/party_*.jsonl"), key=_place_of)
            every = "".join(file.read_text() for file in files)
            # Under `global`, one party gets those of all.
            whole = "".join(dict.fromkeys(every.splitlines(keepends=True)))
            write_private(self.path / "resolutions.jsonl", whole.encode())

    def keep_cases(
        self, job: Job, party: int, cases: Sequence[Mapping[str, object]], name: str
    ) -> None:
        """File one JSON object a line, each a case as MEMIT's evaluation has them.

        Args:
            job: Says which merge and round they are of.
            party: The party's number.
            cases: The cases.
            name: Of all that they depend on, for `find_cases`.
        """
        folder = Path("cases") / _plain(job.label) / f"round_{job.round}"
        file, same = folder / f"party_{party}.jsonl", self.path / self._evaluation(name)
        lines = [dump_json(case) + "\n" for case in cases]
        self._write(file, "".join(lines).encode())
        make_private(same.parent, close=False)
        with suppress(OSError):  # there already, or a file system without links
            same.hardlink_to(self.path / file)

    def find_cases(self, name: str) -> list[dict[str, object]] | None:
        """Return the cases of an evaluation that depended on the same; None if none."""
        try:
            lines = (self.path / self._evaluation(name)).read_text("utf-8").split("\n")
            return [json.loads(line) for line in lines if line]
        except (OSError, ValueError):
            return None

    @property
    def updates(self) -> Path:
        """The folder of the updates that the model carries."""
        return self.path / "updates"

    @contextmanager
    def relay(
        self, job: Job, party: int, carried: Mapping[str, str], model: EditableModel
    ) -> Iterator[Relay]:
        """Begin passes where the round's last exchange left them; keep for the next.

        Nothing is kept after a round's last exchange, or where each exchange reads all
        layers. A file that is not of this model, updates included, is not used.

        Args:
            job: Says which layers are read.
            party: The party's number.
            carried: The digests of the updates that the model carries, by parameter.
            model: The model.
        """
        file = self.path / "states" / _plain(job.label) / f"party_{party}.safetensors"
        start = _read_inputs(file, job, carried, model)
        relay = Relay(start, inputs_to_keep(job.plan, job.layers))
        yield relay
        if relay.kept is None:
            file.unlink(missing_ok=True)
            return
        self._make()
        name = _name_inputs(relay.kept.layer, job, carried, model)
        write_private(file, _write_inputs(relay.kept, name))

    def keep_digest(self, job: Job, party: int, digest: str) -> None:
        """Keep the digest of the requests that the round began with."""
        self._write(self._digest(job, party), digest.encode())

    def find_digest(self, job: Job, party: int) -> str | None:
        """Return the digest of those requests, if there is one."""
        file = self.path / self._digest(job, party)
        return file.read_text() if file.is_file() else None

    def forget(self, kept: Kept = "results") -> None:
        """Remove what only the run needed; the party's own results stay for it.

        These are case files, resolutions, distances and statistics. What is removed are
        targets, updates, hidden states, digests of requests, links to case files, and
        what was given of secure sums.

        Args:
            kept: What shall stay.
        """
        names = ("targets", "states", "requests", "evaluations", "secure")
        work = (self.updates, *(self.path / each for each in names))
        places = {"results": work, "all": (), "nothing": (self.path,)}
        for place in places[kept]:
            shutil.rmtree(place, ignore_errors=True)

    def secure(self, label: str) -> Path:
        """Return the folder of the secure sums of a part of the run."""
        self._make()
        return self.path / "secure" / _plain(label)

    def statistics(self, label: str) -> Path:
        """Return the folder of what the party adds to secure sums, if it is kept."""
        return self.path / "statistics" / _plain(label)

    def _digest(self, job: Job, party: int) -> Path:
        folder = Path("requests") / _plain(job.label) / f"round_{job.round}"
        return folder / f"party_{party}.sha256"

    def _evaluation(self, name: str) -> Path:
        return Path("evaluations") / f"{name}.jsonl"

    def _distances(self, job: Job, number: int, party: int) -> Path:
        folder = Path("distances") / _plain(job.label) / f"round_{number}"
        return folder / f"party_{party}.json"

    def _make(self) -> None:
        make_private(self.path)

    def _write(self, place: Path, data: bytes) -> None:
        self._make()
        write_private(self.path / place, data)


def _describe(
    asked: Sequence[Asked], resolutions: Sequence[Resolution]
) -> Iterator[str]:
    """Write each resolution for the party that can look its request up."""
    by_place = {(each.round, each.party, each.place): each for each in asked}
    for resolution in resolutions:
        own = by_place[resolution.round, resolution.party, resolution.place]
        yield json.dumps(
            {
                "round": own.round,
                "party": resolution.party,
                "case_id": own.request.case_id,
                "reason": resolution.reason,
                "kept": resolution.kept,
            }
        )


def _place_of(file: Path) -> tuple[int, int]:
    """Round and party of a file of resolutions."""
    party = int(file.stem.removeprefix("party_"))
    return int(file.parent.name.removeprefix("round_")), party


def _name_inputs(
    layer: int, job: Job, carried: Mapping[str, str], model: EditableModel
) -> str:
    """Digest what decides what enters a block: the model, and updates before it."""
    later = {
        model.weight_name(each) for each in job.plan.parameters.layers if each >= layer
    }
    before = {name: each for name, each in carried.items() if name not in later}
    parts = [layer, job.identity.model_dump(mode="json"), before]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _write_inputs(inputs: BlockInputs, name: str) -> bytes:
    states = {key: each.cpu().contiguous() for key, each in inputs.states.items()}
    numbers = {"layer": str(inputs.layer), "parts": str(inputs.parts)}
    return save(states, {"name": name, **numbers})


def _read_inputs(
    file: Path, job: Job, carried: Mapping[str, str], model: EditableModel
) -> BlockInputs | None:
    """Read what enters a block up to the first that is read; None if it is not kept."""
    try:
        with safe_open(file, framework="pt") as opened:
            said = opened.metadata()
            layer, parts = int(said["layer"]), int(said["parts"])
            name = _name_inputs(layer, job, carried, model)
            if said["name"] != name or layer > min(job.layers):
                return None
            states = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - safe_open is no mapping
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        return None
    return BlockInputs(layer, parts, states)


def _plain(label: str) -> str:
    # The server chose it: it must not lead out of this folder.
    return re.sub(r"[^\w-]", "_", label)
