"""The private folder of a run: what a party keeps and never sends."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context
from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor

from editing.requests import EditRequest
from strategies.messages import Job


@dataclass(frozen=True, slots=True)
class PrivateFolder:
    """Targets and case files of one run, readable by their owner alone.

    Targets are filed under a digest of all that they depend on, so that merges that are
    compared on the same requests share them, and nothing stale is ever found.
    """

    path: Path

    @classmethod
    def of_run(cls, context: Context) -> "PrivateFolder":
        """The run's folder, under the first of these that is set.

        The node's ``private-folder``, the environment's ``COLLABEDIT_HOME``, and
        ``collabedit`` in Flower's home.
        """
        flower = os.environ.get("FLWR_HOME") or str(Path.home() / ".flwr")
        home = os.environ.get("COLLABEDIT_HOME") or str(Path(flower) / "collabedit")
        chosen = context.node_config.get("private-folder", home)
        return cls(Path(str(chosen)) / str(context.run_id))

    def find_target(self, name: str) -> Float[Tensor, " d_out"] | None:
        """A target that was kept, if it was."""
        file = self.path / "targets" / f"{name}.safetensors"
        return load_file(file)["target"] if file.is_file() else None

    def keep_target(self, name: str, target: Float[Tensor, " d_out"]) -> None:
        """File a target."""
        data = save({"target": target.detach().cpu().contiguous()})
        self._write(Path("targets") / f"{name}.safetensors", data)

    def keep_cases(
        self, job: Job, party: int, cases: Sequence[Mapping[str, object]]
    ) -> None:
        """File one JSON object a line, each a case as MEMIT's evaluation has them."""
        # The server chose the label: it must not lead out of this folder.
        label = re.sub(r"[^\w-]", "_", job.label)
        place = Path("cases") / label / f"round_{job.round}" / f"party_{party}.jsonl"
        lines = [json.dumps(case, ensure_ascii=False) + "\n" for case in cases]
        self._write(place, "".join(lines).encode())

    def forget(self) -> None:
        """Remove the targets; case files stay for their owner."""
        shutil.rmtree(self.path / "targets", ignore_errors=True)

    def _write(self, place: Path, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        file = self.path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.{os.getpid()}.partial")
        beside.write_bytes(data)
        beside.replace(file)


def name_target(request: EditRequest, job: Job) -> str:
    """Digest of all that a target depends on: request, plan, model, earlier updates."""
    asked = [request.prompt, request.subject, request.target_new]
    plan = [job.plan.parameters.model_dump(mode="json"), job.plan.templates]
    model = job.identity.model_dump(mode="json")
    all_of_it = json.dumps([asked, plan, model, job.before])
    return hashlib.sha256(all_of_it.encode()).hexdigest()
