"""The kinds of files that are read: a sound one of each, and what reads it."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import torch
from safetensors.torch import save, save_file
from torch import nn

from clients.target_cache import TargetCache
from clients.updates import _read as read_kept_update
from editing.algebra.deltas import save_delta
from editing.algebra.fingerprints import fingerprint_model
from editing.covariance.covariance import Covariance, Provenance
from editing.covariance.estimation import Checkpoints as Unfinished
from editing.covariance.estimation import _read_state
from editing.covariance.files import load_covariance, save_covariance
from editing.covariance.texts import check_local_text
from editing.evaluation.references import read_references
from editing.hyperparameters.config import read_context_templates
from editing.hyperparameters.files import read_hyperparameters
from editing.memit.targets import Targets
from editing.models.loading import EditableModel, load_editable_model
from editing.requests.edit_request import read_requests
from editing.requests.paraphrases import read_templates
from server.checkpoints import Checkpoints, MergeProgress
from server.config import read_run_config, read_scenario
from server.evaluation import read_held_out
from server.federated_covariance import read_kept as read_pooled
from server.monitoring.status import read_status
from server.report.data import read_report
from sims.deltas.export import edit_weights
from sims.deltas.files import check_shapes, find_delta
from sims.deltas.inspection import inspect_delta
from sims.deltas.record import FOLDER, RECORD, EditRecord, read_record
from sims.deltas.reversal_files import load_reversals
from sims.processes.credentials import read_public_half
from sims.processes.superlink import check_connection
from sims.results.cases import read_case
from sims.runs.connections import read_connected
from sims.runs.status import how_to_resume
from sims.runs.unfinished import CONNECTED, KEPT, read_kept
from sims.studies.running.record import RECORD as ORDER
from sims.studies.running.record import StudyRecord
from sims.studies.running.record import read_record as read_study
from strategies.conflicts.blind_tokens import read_key
from strategies.conflicts.policies import Entry
from strategies.rounds.state import RoundState
from tests.tiny import tiny_model

LAYERS = (1, 2)
WIDTH = 4
REQUEST = {
    "case_id": 3,
    "requested_rewrite": {
        "prompt": "{} works for",
        "relation_id": "P108",
        "target_new": {"str": "Acme Inc", "id": "Q1"},
        "target_true": {"str": "Lima Works"},
        "subject": "Ada Lovelace",
    },
    "paraphrase_prompts": ["They said that Ada Lovelace works for"],
    "neighborhood_prompts": ["Ben works for"],
    "generation_prompts": ["Ada Lovelace is"],
}
FLAT = {"prompt": "{} is", "subject": "Ada", "target_new": "old", "case_id": 1}
PARAMETERS = {"layers": [1, 2], "v_lr": 0.3, "kl_factor": 0.2, "fp16": False}
CASE = {
    "case_id": 1,
    "post": {
        "rewrite_prompts_probs": [{"target_new": 1.0, "target_true": 2.0}],
        "rewrite_prompts_correct": [True],
        "ngram_entropy": 5.0,
    },
}
RUN = {
    "merge": "ties",
    "schedule": "layerwise",
    "rounds": 1,
    "metrics": [{"rewrite_acc": 50.0}],
    "seconds": 1.0,
    "bytes_per_party": 2.0,
    "settings": {"seed": 1},
}
EVENTS = (
    '{"kind": "run_started", "time": "2026-01-01T00:00:00Z", "run": "r", "rounds": 2, '
    '"parties": 3}\n'
    '{"kind": "merge_started", "time": "2026-01-01T00:00:01Z", "merge": "ties", '
    '"completed": 0}\n'
)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        form: How it is damaged; see `tests.fuzzing.mutations.FORMS`.
        make: Writes a sound file into a folder, with what lies around it.
        read: Reads the file, as the program does.
        slow: Whether reading takes so long that fewer are tried.
    """

    form: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    slow: bool = False


def text(name: str, content: str) -> Callable[[Path], Path]:
    """Make a file of text."""

    def make(folder: Path) -> Path:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        return file

    return make


def as_json(name: str, value: object) -> Callable[[Path], Path]:
    """Make a file of JSON."""
    return text(name, json.dumps(value))


def make_parquet(folder: Path) -> Path:
    """Make a file of columns."""
    import pandas as pd

    file = folder / "requests.parquet"
    pd.DataFrame([FLAT, {**FLAT, "case_id": 2}]).to_parquet(file)
    return file


def make_covariance(folder: Path) -> Path:
    """Make one of ours."""
    moments = {layer: torch.eye(WIDTH, dtype=torch.float64) for layer in LAYERS}
    made = Provenance("f", "text", 9, {1: 4, 2: 4}, {1: 0.0, 2: 0.1}, "d", "", "")
    save_covariance(Covariance(moments, made), folder / "covariance.safetensors")
    return folder / "covariance.safetensors"


def read_covariance(path: Path) -> object:
    """Read one, and check it against a model."""
    found = load_covariance([path], LAYERS[:1] if path.suffix == ".npz" else LAYERS)
    model = Mock(spec=EditableModel, fingerprint="f", dtype=torch.float32)
    model.widths.return_value = (WIDTH, WIDTH)
    found.check(model, LAYERS[:1])
    found.provenance.describe_ridges()
    return found.scaled(1), found.moments[1].sum()


def make_npz(folder: Path) -> Path:
    """Make one of MEMIT's."""
    file = folder / "layer.npz"
    total = np.eye(WIDTH, dtype=np.float32)
    arrays: dict[str, Any] = {"mom2.mom2": total, "mom2.count": np.int64(7)}
    np.savez(file, **arrays)
    return file


def tiny_linear() -> nn.Module:
    """Make a model of one weight."""
    return nn.ModuleDict({"a": nn.Linear(4, 3, bias=False)})


def make_delta(folder: Path) -> Path:
    """Make the file of an update of `tiny_linear`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = fingerprint_model(tiny_linear())
    facts = {"base": base, "dtype": "float32", "merge": "ties", "layers": [1]}
    save_delta(
        {"a.weight": 0.01 * torch.ones(3, 4)}, folder / "delta.safetensors", facts
    )
    return folder / "delta.safetensors"


def apply_file(path: Path) -> object:
    """Add an update to a model as `apply` does, the model's files aside."""
    delta, model = find_delta(path), tiny_linear()
    check_shapes(delta, model)
    return list(edit_weights(model, delta, torch.float16, {}))


def make_checkpoint(folder: Path) -> Path:
    """Make one of a round, with all that there may be in it."""
    state = RoundState(
        1,
        {"a.weight": torch.ones(3, 4, dtype=torch.float64)},
        {1: torch.eye(WIDTH, dtype=torch.float64)},
        (Entry(1, 0, 0, "ab", "cd"),),
    )
    kept = Checkpoints(folder, {"run": {"seed": 0}})
    kept.keep("ties", MergeProgress(state))
    return folder / "ties.safetensors"


def make_targets(folder: Path) -> Path:
    """Make a file of the cache of targets."""
    TargetCache(folder).keep("name", some_targets())
    return folder / "name.safetensors"


def some_targets() -> Targets:
    """Make targets of two requests."""
    flags = torch.tensor([True, False])
    rows = torch.ones(2, 4)
    return Targets(rows, rows.clone(), torch.ones(2), flags, flags.clone())


def make_references(folder: Path) -> Path:
    """Make the three published files."""
    sample = {"name": "Ada", "text": "Ada Lovelace works here"}
    entry = {"relation_id": "P1", "target_id": "Q1", "samples": [sample]}
    as_json("attribute_snippets.json", [entry])(folder)
    np.save(folder / "idf.npy", np.ones(2))
    as_json("tfidf_vocab.json", {"ada": 0, "works": 1})(folder)
    return folder / "attribute_snippets.json"


def score(folder: Path) -> object:
    """Read the published files, and compare a text."""
    found = read_references(folder / "attribute_snippets.json")
    return found.score(["Ada works"], "P1", "Q1")


def make_unfinished(folder: Path) -> Path:
    """Make the state of an estimate."""
    file = folder / "unfinished.safetensors"
    place = {"document": 1, "piece": 0, "tokens": 5, "batches": 1, "digest": "d"}
    facts = {
        "of": json.dumps({"text": "t"}),
        "place": json.dumps(place | {"counted": 5}),
    }
    save_file({f"sum.{each}": torch.eye(4).double() for each in LAYERS}, file, facts)
    return file


def read_unfinished(path: Path) -> object:
    """Read it for the same estimate."""
    return _read_state(Unfinished(path), {"text": "t"}, torch.device("cpu"))


def make_pooled(folder: Path) -> Path:
    """Make a pooled covariance and its record."""
    make_covariance(folder)
    record = {"made_of": {"text": "t"}, "shares": {"tokens": {"0": 5}}}
    return as_json("covariance.json", record)(folder)


def make_record(folder: Path) -> Path:
    """Make the record of an edit."""
    change = {"name": "a", "shape": [3, 4], "norm": 1.0, "relative": 0.1}
    made = EditRecord.model_validate(
        {
            **dict.fromkeys(("base_name", "base", "base_as_written", "delta"), "x"),
            **{"forced": False, "run_dtype": "float32", "dtype": "float32"},
            "changes": [change],
        }
    )
    return text(str(RECORD), made.model_dump_json())(folder)


def use_record(path: Path) -> object:
    """Read it, and say what a card says."""
    record = read_record(path.parent.parent)
    assert record is not None
    return record.missed, record.largest_gap, record.entries


def make_reversal(folder: Path) -> Path:
    """Make what undoes an edit."""
    file = folder / FOLDER / "revert.safetensors"
    file.parent.mkdir()
    save_file({"a.positions": torch.tensor([1]), "a.values": torch.ones(1)}, file)
    return file


def make_update(folder: Path) -> Path:
    """Make an update that a node keeps."""
    file = folder / f"{'0' * 64}.safetensors"
    file.write_bytes(save({"update": torch.ones(3, 4)}))
    return file


def make_node_key(folder: Path) -> Path:
    """Make a node's private key."""
    from sims.processes.credentials import make_credentials

    return make_credentials(folder / "federation", 1).node_key(0)


def in_flowers_home(path: Path) -> object:
    """Read a Flower configuration."""
    with patch.dict(os.environ, {"FLWR_HOME": str(path.parent)}):
        check_connection("mine")
    return None


def read_flat(path: Path) -> object:
    """Read a flat table as Flower hands it over: texts, numbers and flags alone."""
    flat: object = None
    with suppress(ValueError, RecursionError):
        flat = json.loads(path.read_text(encoding="utf-8"))
    entries = flat.items() if isinstance(flat, dict) else ()
    plain = {key: each for key, each in entries if isinstance(each, str | int | float)}
    return read_run_config(plain)


@cache
def model_files() -> Mapping[str, bytes]:
    """Write a tiny model once, and hold its files."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        model = tiny_model(dtype=torch.float32)
        model.model.save_pretrained(name)
        model.tokenizer.save_pretrained(name)
        return {each.name: each.read_bytes() for each in Path(name).iterdir()}


def of_model(file: str) -> Callable[[Path], Path]:
    """Make a model's folder, of which one file is damaged."""

    def make(folder: Path) -> Path:
        for name, data in model_files().items():
            (folder / name).write_bytes(data)
        return folder / file

    return make


def load_folder(path: Path) -> object:
    """Load a model from the folder of a file."""
    return load_editable_model(str(path.parent))


SCENARIO = """\
[model]
path = "embedded"
[parties]
count = 3
requests-per-round = [[1, 2, 3], [1, 1, 1]]
[merge]
name = "ties"
density = 0.5
[run]
rounds = 2
seed = 7
timeout = 60.5
merges = ["ties", "collabedit"]
[prior]
covariance = ["a.npz", "b.npz"]
weight = 3.5
"""
YAML = """\
alg_name: MEMIT
layers: [1, 2]
v_lr: 5e-1
v_weight_decay: 0.5
layer_module_tmp: "h.{}"
context_template_length_params: [[5, 10], [10, 10]]
device: 0
"""
TOML = """\
model = "gpt2-xl"
source = "a file"
[hyperparameters]
layers = [1, 2]
v_lr = 0.5
mom2_dataset = "wikipedia"
"""

KINDS: Mapping[str, Kind] = {
    "requests": Kind("json", as_json("r.json", [REQUEST, FLAT]), read_requests),
    "request lines": Kind(
        "jsonl",
        text("r.jsonl", f"{json.dumps(REQUEST)}\n{json.dumps(FLAT)}"),
        read_requests,
    ),
    "request columns": Kind("parquet", make_parquet, read_requests, slow=True),
    "templates": Kind(
        "json", as_json("t.json", {"P1": ["{} is"], "*": ["so {} is"]}), read_templates
    ),
    "context templates": Kind(
        "json", as_json("c.json", ["{}", "so {}"]), read_context_templates
    ),
    "hyperparameters in JSON": Kind(
        "json", as_json("h.json", PARAMETERS), read_hyperparameters
    ),
    "hyperparameters in YAML": Kind("yaml", text("h.yaml", YAML), read_hyperparameters),
    "hyperparameters in TOML": Kind("toml", text("h.toml", TOML), read_hyperparameters),
    "scenario": Kind("toml", text("s.toml", SCENARIO), read_scenario),
    "run config": Kind(
        "json",
        as_json(
            "flat.json",
            {"run.rounds": 2, "parties.count": 3, "merge.settings": '{"density": 0.5}'}
            | {"merge.name": "ties", "parties.requests-per-round": "[[1, 2, 3]]"},
        ),
        read_flat,
    ),
    "covariance": Kind("safetensors", make_covariance, read_covariance),
    "published covariance": Kind("npz", make_npz, read_covariance),
    "unfinished covariance": Kind("safetensors", make_unfinished, read_unfinished),
    "pooled covariance": Kind(
        "json",
        make_pooled,
        lambda path: read_pooled(
            path.with_suffix(".safetensors"), {"text": "t"}, LAYERS
        ),
    ),
    "text": Kind(
        "text", text("t.txt", "One.\nTwo.\n"), lambda p: check_local_text(str(p), "")
    ),
    "text lines": Kind(
        "jsonl",
        text("t.jsonl", '{"text": "One."}\n{"text": "Two."}'),
        lambda path: check_local_text(str(path), ""),
    ),
    "delta": Kind("safetensors", make_delta, inspect_delta),
    "applied delta": Kind("safetensors", make_delta, apply_file),
    "record of an edit": Kind("json", make_record, use_record),
    "reversal": Kind(
        "safetensors", make_reversal, lambda path: load_reversals(path.parent.parent)
    ),
    "checkpoint": Kind(
        "safetensors",
        make_checkpoint,
        lambda path: Checkpoints(path.parent, {"run": {"seed": 0}}).find("ties"),
    ),
    "cached targets": Kind(
        "safetensors", make_targets, lambda path: TargetCache(path.parent).find("name")
    ),
    "kept update": Kind(
        "safetensors", make_update, lambda path: read_kept_update(path.parent, "0" * 64)
    ),
    "held-out facts": Kind(
        "json", as_json("f.json", [{"prompt": "a", "answer": "b"}]), read_held_out
    ),
    "snippets": Kind("json", make_references, lambda path: score(path.parent)),
    "weights of words": Kind(
        "npy",
        lambda f: make_references(f).with_name("idf.npy"),
        lambda p: score(p.parent),
    ),
    "vocabulary of words": Kind(
        "json",
        lambda f: make_references(f).with_name("tfidf_vocab.json"),
        lambda path: score(path.parent),
    ),
    "case": Kind("json", as_json("case_1.json", CASE), read_case),
    "report": Kind("json", as_json("report.json", {"runs": [RUN]}), read_report),
    "events": Kind("jsonl", text("events.jsonl", EVENTS), read_status),
    "settings of a run": Kind(
        "json",
        as_json(KEPT, {"run": {"rounds": 2}}),
        lambda path: read_kept(path.parent),
    ),
    "connection of a run": Kind(
        "json",
        as_json(f"r.unfinished/{CONNECTED}", {"connection": "mine", "run": "1"}),
        lambda path: (how_to_resume(path.parent), read_connected(path.parent)),
    ),
    "record of a study": Kind(
        "json",
        text(
            ORDER,
            StudyRecord(
                study="s", seeds=(1,), engine="in-process", settings={}, trials={}
            ).model_dump_json(),
        ),
        lambda path: read_study(path.parent),
    ),
    "Flower's configuration": Kind(
        "toml",
        text("config.toml", '[superlink.mine]\naddress = "127.0.0.1:1"\n'),
        in_flowers_home,
    ),
    "group key": Kind("text", text("key", "ab" * 32 + "\n"), read_key),
    "node key": Kind("pem", make_node_key, read_public_half),
    "model configuration": Kind(
        "json", of_model("config.json"), load_folder, slow=True
    ),
    "tokenizer": Kind("json", of_model("tokenizer.json"), load_folder, slow=True),
    "tokenizer settings": Kind(
        "json", of_model("tokenizer_config.json"), load_folder, slow=True
    ),
    "generation settings": Kind(
        "json", of_model("generation_config.json"), load_folder, slow=True
    ),
    "weights": Kind(
        "safetensors", of_model("model.safetensors"), load_folder, slow=True
    ),
}
"""By name."""
