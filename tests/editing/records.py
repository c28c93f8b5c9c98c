"""Records in every published form: made up here, and found beside the project."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.trees import ROOT

Record = dict[str, Any]

FLAT: Record = {
    "case_id": 3,
    "prompt": "The mother tongue of {} is",
    "subject": "Danielle Darrieux",
    "target_new": "English",
    "target_true": "French",
    "relation_id": "P103",
    "paraphrase_prompts": ["Danielle Darrieux, a native"],
    "locality": [{"prompt": "Rome is in", "answers": ["Italy", "Latium"]}],
}
COUNTERFACT: Record = {
    "case_id": 7,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "subject": "Danielle Darrieux",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "relation_id": "P103",
    },
    "paraphrase_prompts": ["Danielle Darrieux, a native"],
    "neighborhood_prompts": ["Michel Rocard is a native speaker of"],
    "attribute_prompts": ["J.R.R. Tolkien is a native speaker of"],
    "generation_prompts": ["Danielle Darrieux was born in"],
}
ZSRE: Record = {
    "subject": "USS Quill (Q-5)",
    "src": "Which was the yard of USS Quill (Q-5)?",
    "pred": "North Yard",
    "rephrase": "Which yard built USS Quill (Q-5)?",
    "alt": " West-Yard",
    "answers": ["South Yard", "the South"],
    "loc": "nq question: who wrote the book of hours",
    "loc_ans": "Ada Quill",
    "cond": "North Yard >>  West-Yard || Which was the yard of USS Quill (Q-5)?",
}
RECENT: Record = {
    "subject": "Ada Quill",
    "prompt": "The place of death of Ada Quill is",
    "target_new": "Lund",
    "portability": {
        "Logical_Generalization": [
            {"prompt": "Is Ada Quill alive?", "ground_truth": [["no"], ["is dead"]]}
        ],
        "Reasoning": [
            {"prompt": "Ada Quill died in", "ground_truth": [["Skåne", "Scania"]]}
        ],
    },
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The father of Ada Quill is", "ground_truth": [["Bo Quill"]]},
            {"prompt": ["The work of Ada Quill is"], "ground_truth": ["physics"]},
        ]
    },
}
KNOW_ZSRE: Record = {
    **RECENT,
    "prompt": "Where did Ada Quill die?",
    "ground_truth": ["Kiel", "Kiel, Germany"],
    "rephrase_prompt": "Which town did Ada Quill die in?",
    "cond": "Bonn >> Lund || Where did Ada Quill die?",
    "portability": {"Reasoning": [{"prompt": "Land?", "ground_truth": "Sweden"}]},
}
WIKIBIO: Record = {
    "text": "This is a Wikipedia passage about ada quill. Ada Quill (1828 - 1896) was",
    "labels": "She was educated at Lund.",
    "concept": "ada quill",
    "locality": {
        "Relation_Specificity": [
            {"prompt": "ada quill field of work", "ground_truth": ["medicine"]}
        ]
    },
}
EASY: Record = {
    "case_id": 4,
    "prompt": "The mother tongue of Ada Quill is",
    "target_new": "English",
    "subject": "Ada Quill",
    "ground_truth": "Swedish",
    "rephrase_prompt": "Rain fell. Ada Quill spoke",
    "locality_prompt": "The mother tongue of Bo is",
    "locality_ground_truth": "Danish",
}
CONFLICT: Record = {
    "type": "1-2@P69",
    "edit": {
        "relation": {
            "id": "P69",
            "prompt": "{} was educated at",
            "query": "Where did {} study?",
            "label": "educated at",
        },
        "subject": {"id": "Q1", "label": "Ada Quill"},
        "new_object": "the North School",
        "object": {"id": "Q3", "label": "the South School"},
        "conflict_object": {"id": "Q-2", "label": "the West School"},
    },
    "true_objects": [{"id": "Q3", "label": "the South School"}],
}
MADE: dict[str, list[Record]] = {
    "flat": [FLAT],
    "CounterFact": [COUNTERFACT],
    "zsRE": [ZSRE],
    "KnowEdit": [RECENT, KNOW_ZSRE, WIKIBIO, EASY],
    "ConflictEdit": [CONFLICT],
}
PUBLISHED = {
    "multi_counterfact_sample.json": ("CounterFact", 46),
    "zsre_mend_sample.json": ("zsRE", 8),
    "conflict_edit_sample.json": ("ConflictEdit", 100),
    "conflict_edit_planted_sample.json": ("ConflictEdit", 100),
}


def published(name: str) -> list[Record]:
    """Read a file of published records."""
    path = find(name)
    records: list[Record] = json.loads(path.read_text("utf-8"))
    return records


def find(name: str) -> Path:
    """Find a file of published records."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.is_file():
        pytest.skip(f"no published records at {path}")
    return path
