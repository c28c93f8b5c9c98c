"""Sound files of every kind that is read, and what reads them."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import torch
from safetensors.torch import save, save_file
from torch import nn

from clients.secure.state import OwnSession, OwnSum
from clients.target_cache import TargetCache
from editing.algebra.deltas import save_delta
from editing.algebra.fingerprints import fingerprint_model
from editing.algebra.statistics import LayerStatistics, Sums
from editing.covariance.covariance import Covariance, Provenance
from editing.covariance.estimation import Checkpoints as Unfinished
from editing.covariance.estimation import _read_state
from editing.covariance.files import load_covariance, save_covariance
from editing.evaluation.references import read_references
from editing.malmen.files import FILE, save_hypernetwork
from editing.malmen.hypernetwork import HypernetworkShape
from editing.memit.targets import Targets
from editing.models.loading import EditableModel, load_editable_model
from server.checkpoints import Checkpoints, MergeProgress
from server.config import read_run_config
from server.kept_statistics import KeptStatistics, read_rounds
from sims.deltas.export import edit_weights
from sims.deltas.files import check_shapes, find_delta
from sims.deltas.record import FOLDER, RECORD, EditRecord, read_record
from sims.processes.superlink import check_connection
from strategies.conflicts.policies import Entry
from strategies.rounds.state import RoundState
from strategies.wire.messages import Phase
from tests.hypernetworks import draw_hypernetwork
from tests.summing import session_of
from tests.tiny import tiny_model

SECRETS = OwnSession(
    session=session_of(),
    sharing="ab" * 32,
    sums={"targets": OwnSum(private="ab" * 32, seed="cd" * 32)},
).model_dump_json()
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


def make_hypernetwork(folder: Path) -> Path:
    """Make a small one."""
    shape = HypernetworkShape(layers=LAYERS, d_in=4, d_out=3, rank=2, blocks=1)
    save_hypernetwork(draw_hypernetwork(shape), folder / FILE)
    return folder / FILE


def make_checkpoint(folder: Path) -> Path:
    """Make one of a round, with all that there may be in it."""
    state = RoundState(
        1,
        {"a.weight": torch.ones(3, 4, dtype=torch.float64)},
        {1: torch.eye(WIDTH, dtype=torch.float64)},
        (Entry(1, 0, 0, "ab", "cd"),),
        kept={1: {"basis": torch.eye(2, dtype=torch.float64)}},
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


def make_statistics(folder: Path) -> Path:
    """Make the file of a party's statistics, with sums."""
    keys, residuals = torch.ones(2, 4).double(), torch.ones(2, 3).double()
    sums = Sums(keys.mT @ keys, residuals.mT @ keys)
    kept = KeptStatistics(folder)
    kept.begin(1)
    part = LayerStatistics(keys, residuals, 4, sums)
    kept.keep(Phase.TARGETS, 1, 0, part)
    kept.end(1)
    return folder / "round_001" / "solved.layer_1.party_0.safetensors"


def read_statistics(path: Path) -> object:
    """Read it for a layer, and make the sums of it."""
    (found,) = read_rounds(path.parent.parent, {1: (3, 4)})
    part = found.solved[1][0]
    return part.gram.sum(), part.cross.sum()


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
