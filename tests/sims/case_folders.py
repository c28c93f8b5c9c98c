"""Handwritten results of all three writers, and cases with numbers drawn."""

import json
import random
from collections.abc import Sequence
from math import exp
from pathlib import Path
from statistics import mean
from typing import Any

Case = dict[str, Any]
KINDS = ("rewrite", "paraphrase", "neighborhood")


def draw_case(number: int, seed: int = 0, prompts: int = 3) -> Case:
    """Draw a CounterFact case as MEMIT writes it."""
    rng = random.Random(f"{seed}/{number}")
    post: Case = {"text": ["It is."], "ngram_entropy": rng.random() * 6}
    post["reference_score"] = rng.random()
    for kind in KINDS:
        count = 1 if kind == "rewrite" else prompts
        post[f"{kind}_prompts_probs"] = [
            {"target_new": rng.random() * 9, "target_true": rng.random() * 9}
            for _ in range(count)
        ]
        post[f"{kind}_prompts_correct"] = [rng.random() < 0.5 for _ in range(count)]
    return {"case_id": number, "grouped_case_ids": [number], "time": 1.5, "post": post}


def draw_question(number: int, seed: int = 0) -> Case:
    """Draw a zsRE case, which has no other object to compare with."""
    post = draw_case(number, seed)["post"]
    correct = {key: value for key, value in post.items() if key.endswith("_correct")}
    return {"case_id": number, "post": correct}


def measure(case: Case) -> dict[str, float]:
    """Reduce a case by the definitions of its metrics."""
    post, metrics = case["post"], {}
    for kind in KINDS:
        right, wrong = "target_new", "target_true"
        if kind == "neighborhood":
            right, wrong = wrong, right
        probs = post.get(f"{kind}_prompts_probs", [])
        if probs:
            wins = [100.0 * (each[right] < each[wrong]) for each in probs]
            gaps = [exp(-each[right]) - exp(-each[wrong]) for each in probs]
            metrics[f"{kind}_success"] = mean(wins)
            metrics[f"{kind}_diff"] = mean(gaps)
        correct = post.get(f"{kind}_prompts_correct", [])
        if correct:
            metrics[f"{kind}_acc"] = mean(100.0 * each for each in correct)
    for name in ("ngram_entropy", "reference_score"):
        if name in post:
            metrics[name] = 100 * post[name]
    return metrics


def write(path: Path, value: object) -> Path:
    """Write JSON, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_ours(folder: Path, cases: Sequence[Case]) -> None:
    """Write case files under our names."""
    for case in cases:
        write(folder / f"case_{case['case_id']}.json", case)


def write_memits(folder: Path, cases: Sequence[Case], edits: int = 10) -> None:
    """Write case files under MEMIT's names."""
    for case in cases:
        write(folder / f"{edits}_edits-case_{case['case_id']}.json", case)


def write_collabedits(folder: Path, cases: Sequence[Case], level: str) -> None:
    """Write case files as CollabEdit does: the level that was not run is empty."""
    for case in cases:
        levels: Case = {"global_edit": {}, "collaborative_edit": {}}
        path = folder / f"10_edits-case_{case['case_id']}.json"
        write(path, levels | {level: case})
