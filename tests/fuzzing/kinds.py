"""The kinds of files that are read: a sound one of each, and what reads it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clients.secure.state import SecretFiles
from clients.target_cache import TargetCache
from clients.updates import _read as read_kept_update
from editing.covariance.texts import check_local_text
from editing.hyperparameters.config import read_context_templates
from editing.hyperparameters.files import read_hyperparameters
from editing.malmen.files import read_hypernetwork
from editing.requests.edit_request import read_requests
from editing.requests.paraphrases import read_templates
from server.checkpoints import Checkpoints
from server.config import read_scenario
from server.evaluation import read_held_out
from server.federated_covariance import read_kept as read_pooled
from server.monitoring.status import read_status
from server.report.data import read_report
from sims.deltas.inspection import inspect_delta
from sims.deltas.reversal_files import load_reversals
from sims.processes.credentials import read_public_half
from sims.results.cases import read_case
from sims.runs.connections import read_connected
from sims.runs.status import how_to_resume
from sims.runs.unfinished import CONNECTED, KEPT, read_kept
from sims.studies.running.record import RECORD as ORDER
from sims.studies.running.record import StudyRecord
from sims.studies.running.record import read_record as read_study
from strategies.conflicts.blind_tokens import read_key
from tests.fuzzing.sound_files import (
    CASE,
    EVENTS,
    FLAT,
    LAYERS,
    PARAMETERS,
    REQUEST,
    RUN,
    SCENARIO,
    SECRETS,
    TOML,
    YAML,
    apply_file,
    as_json,
    in_flowers_home,
    load_folder,
    make_checkpoint,
    make_covariance,
    make_delta,
    make_hypernetwork,
    make_node_key,
    make_npz,
    make_parquet,
    make_pooled,
    make_record,
    make_references,
    make_reversal,
    make_statistics,
    make_targets,
    make_unfinished,
    make_update,
    of_model,
    read_covariance,
    read_flat,
    read_statistics,
    read_unfinished,
    score,
    text,
    use_record,
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
    "hypernetwork": Kind("safetensors", make_hypernetwork, read_hypernetwork),
    "record of an edit": Kind("json", make_record, use_record),
    "reversal": Kind(
        "safetensors", make_reversal, lambda path: load_reversals(path.parent.parent)
    ),
    "checkpoint": Kind(
        "safetensors",
        make_checkpoint,
        lambda path: Checkpoints(path.parent, {"run": {"seed": 0}}).find("ties"),
    ),
    "kept statistics": Kind("safetensors", make_statistics, read_statistics),
    "secrets of sums": Kind(
        "json",
        text("session_0.json", SECRETS),
        lambda path: SecretFiles(path.parent, 0).find_session(),
    ),
    "given sums": Kind(
        "json",
        as_json("given_0.json", {"attempts": {"a": 1}, "sums": {"1 targets": [0, 1]}}),
        lambda path: SecretFiles(path.parent, 0).find_given(),
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
