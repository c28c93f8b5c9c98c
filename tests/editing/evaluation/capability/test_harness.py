"""Tasks of lm-evaluation-harness on a model of ours, without a network."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from editing.algebra.deltas import applied
from editing.base.errors import InputError
from editing.evaluation.capability.config import CapabilityConfig, TaskOptions
from editing.evaluation.capability.harness import find_tasks, run_tasks
from editing.evaluation.capability.measure import open_capability
from tests.tiny import LAYERS, tiny_model

MODEL = tiny_model(dtype=torch.float32)
CHOICES = ("harp", "viola", "Acme Works Group", "Oslo")
PROMPTS = (
    "Ada Lovelace plays the",
    "the employer of Dora Stone is",
    "one day , Ben lives in",
    "Cleo was born at",
    "Hal",
)
TASK = """
task: tiny_facts
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
metadata:
  version: 1
"""


def naive_choice(prompt: str) -> int:
    """Take the choice whose tokens together are the likeliest."""
    totals = []
    for choice in CHOICES:
        ids, total = list(MODEL.tokenizer(prompt)["input_ids"]), 0.0
        for token in MODEL.tokenizer(f" {choice}")["input_ids"]:
            scores = MODEL.model(input_ids=torch.tensor([ids])).logits[0, -1]
            total += scores.log_softmax(dim=-1)[token].item()
            ids.append(token)
        totals.append(total)
    return totals.index(max(totals))


def choose() -> list[int]:
    """Answer all questions."""
    return [naive_choice(prompt) for prompt in PROMPTS]


def planted(answers: list[int]) -> list[int]:
    """Take other answers than the model's to the last two questions."""
    return [*answers[:3], *((answer + 1) % 4 for answer in answers[3:])]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a task of five questions, of which the model answers three."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "facts.jsonl"
    answers = [
        (naive_choice(prompt) + (n >= 3)) % 4 for n, prompt in enumerate(PROMPTS)
    ]
    lines = [
        json.dumps({"prompt": prompt, "choices": CHOICES, "answer": answer})
        for prompt, answer in zip(PROMPTS, answers, strict=True)
    ]
    data.write_text("\n".join(lines))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "tiny_facts.yaml").write_text(TASK.format(data=data))
    return tasks


@pytest.mark.training
def test_the_accuracy_is_that_of_one_choice_at_a_time(folder: Path) -> None:
    """Unedited, with an update, and with the update taken back."""
    options = TaskOptions(names=("tiny_facts",), folder=folder)
    manager, drawn = find_tasks(options), torch.get_rng_state()
    found = run_tasks(MODEL, options, manager)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert found["tiny_facts"]["acc,none"] == pytest.approx(3 / 5)
    answers = planted(choose())
    d_out, d_in = MODEL.widths(LAYERS[0])
    draw = torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(1))
    with applied({MODEL.weight_name(LAYERS[0]): 3 * draw}, MODEL.model):
        edited = run_tasks(MODEL, options, manager)
        now = choose()
    right = [one == other for one, other in zip(answers, now, strict=True)]
    assert edited["tiny_facts"]["acc,none"] == pytest.approx(sum(right) / 5)
    assert run_tasks(MODEL, options, manager) == found
    few = options.model_copy(update={"limit": 2})
    assert run_tasks(MODEL, few, manager)["tiny_facts"]["acc,none"] == 1


@pytest.mark.training
def test_the_capability_curve_has_a_tasks_numbers(folder: Path) -> None:
    """Of the first documents, with the harness and the limit in their id."""
    config = CapabilityConfig(tasks=("tiny_facts",), task_dir=str(folder), task_limit=4)
    measure = open_capability(config, "no model's folder is read")
    assert measure(MODEL, {}) == {"tiny_facts.acc": 3 / 4}
    own = f"lm-eval.tiny_facts.acc.v{version('lm_eval')}.limit-4"
    assert measure.define(["tiny_facts.acc"]) == {"tiny_facts.acc": own}
    nowhere = config.model_copy(update={"task_dir": str(folder / "none")})
    with pytest.raises(InputError, match=r"`capability\.task-dir` .*none is no folder"):
        open_capability(nowhere, "")


@pytest.mark.training
def test_an_unknown_task_is_refused(folder: Path) -> None:
    """By its name, before anything runs."""
    options = TaskOptions(names=("tiny_facts", "no_such_task"), folder=folder)
    with pytest.raises(InputError, match="--tasks: no_such_task not known"):
        find_tasks(options)


def test_a_missing_harness_is_said_with_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is an extra that most do without."""
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(InputError, match="not installed: pip install 'lm-eval"):
        find_tasks(TaskOptions(names=("arc_easy",)))
