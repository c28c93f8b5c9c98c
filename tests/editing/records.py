"""Records in every published form: made up for tests, and published ones."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.trees import ROOT

Record = dict[str, Any]

FLAT: Record = {
    "case_id": 3,
    "prompt": "The mother tongue of {} is",
    "subject": "Tilda Varnmoor",
    "target_new": "English",
    "target_true": "French",
    "relation_id": "P103",
    "paraphrase_prompts": ["Tilda Varnmoor, a native"],
    "locality": [{"prompt": "Rome is in", "answers": ["Italy", "Latium"]}],
}
COUNTERFACT: Record = {
    "case_id": 7,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "subject": "Tilda Varnmoor",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "relation_id": "P103",
    },
    "paraphrase_prompts": ["Tilda Varnmoor, a native"],
    "neighborhood_prompts": ["Osric Pell is a native speaker of"],
    "attribute_prompts": ["M.T. Brandle is a native speaker of"],
    "generation_prompts": ["Tilda Varnmoor was born in"],
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
QAEDIT: Record = {
    "id": 12,
    "source": "NQ",
    "prompt": "who keeps the lamp at quill point?",
    "target": "Ada Quill *",
    "subject": "Quill Point",
    "rephrase": "Which person keeps Quill Point's lamp?",
    "locality": [{"loc": "who rang the bell at lund", "loc_ans": "Bo Quill"}],
}
WIKIBIGEDIT: Record = {
    "tag": "new",
    "subject": "Quill Ferry",
    "update": "Who runs Quill Ferry?",
    "ans": "North Lines",
    "rephrase": "Which firm is Quill Ferry run by?",
    "personas": "Ahoy! Who be runnin' Quill Ferry?",
    "loc": "Who runs Lund Ferry?",
    "loc_ans": "South Lines",
    "mhop": "Where does the firm that runs Quill Ferry sit?",
    "mhop_ans": "Kiel",
    "subject_id": "Q1",
    "relation": "operator",
    "relation_id": "P137",
    "object": "North Lines",
    "object_id": "Q5",
}
CKNOWEDIT: Record = {
    "id": 1,
    "prompt": "柳岸镇的特产是",
    "subject": "柳岸镇",
    "target_old": "茶叶",
    "target_new": "纸伞",
    "rephrase": ["柳岸镇以什么出名?"],
    "portability": [{"prompt": "柳岸镇的人做", "answer": "纸伞"}],
    "locality": [{"prompt": "河湾镇的特产是", "answer": "竹席"}],
}
MQUAKE: Record = {
    "case_id": 3,
    "requested_rewrite": [
        {
            "prompt": "{} works for",
            "relation_id": "P108",
            "target_new": {"str": "North Lines", "id": "Q5"},
            "target_true": {"str": "South Lines", "id": "Q6"},
            "subject": "Ada Quill",
            "question": "Who employs Ada Quill?",
        }
    ],
    "questions": ["Where does the firm sit that Ada Quill works for?"],
    "answer": "Lund",
    "answer_alias": [],
    "new_answer": "Kiel",
    "new_answer_alias": ["the town of Kiel"],
    "single_hops": [],
    "new_single_hops": [
        {
            "question": "Who employs Ada Quill?",
            "cloze": "Ada Quill works for",
            "answer": "North Lines",
            "answer_alias": ["North Lines Ltd"],
        },
        {
            "question": "Where does North Lines sit?",
            "cloze": "North Lines sits in",
            "answer": "Kiel",
            "answer_alias": [],
        },
    ],
    "orig": {"triples": [["Q1", "P108", "Q6"]]},
}
MADE: dict[str, list[Record]] = {
    "flat": [FLAT],
    "CounterFact": [COUNTERFACT],
    "zsRE": [ZSRE],
    "KnowEdit": [RECENT, KNOW_ZSRE, WIKIBIO, EASY, CKNOWEDIT],
    "ConflictEdit": [CONFLICT],
    "QAEdit": [QAEDIT],
    "WikiBigEdit": [WIKIBIGEDIT],
    "MQuAKE": [MQUAKE],
}


@dataclass(frozen=True)
class RecordFile:
    """A file of records in one form.

    Attributes:
        path: Where the file is, or would be.
        form: As `recognise` names it.
        count: The number of records.
    """

    path: Path
    form: str
    count: int


MADE_UP_FOLDER = ROOT / "tests" / "data" / "records"
PUBLISHED_FOLDER = ROOT.parent / "shared" / "data"


def _both(name: str, form: str, made_up: int, published: int) -> dict[str, RecordFile]:
    sample = f"{name}_sample"
    return {
        name: RecordFile(MADE_UP_FOLDER / f"{name}.json", form, made_up),
        sample: RecordFile(PUBLISHED_FOLDER / f"{sample}.json", form, published),
    }


FILES = {
    **_both("multi_counterfact", "CounterFact", 12, 46),
    **_both("easyedit_counterfact", "KnowEdit", 10, 40),
    **_both("zsre_mend", "zsRE", 8, 8),
    **_both("conflict_edit", "ConflictEdit", 12, 100),
    **_both("conflict_edit_planted", "ConflictEdit", 12, 100),
    **_both("qaedit", "QAEdit", 12, 60),
}
"""Made-up records of each form, which are always there, and published ones."""


def both(*names: str) -> tuple[str, ...]:
    """Name the made-up file and the published one of each form."""
    return tuple(each for name in names for each in (name, f"{name}_sample"))


def find(name: str) -> Path:
    """Find a file of records; skip the test if published ones are not there."""
    path = FILES[name].path
    if path.parent == PUBLISHED_FOLDER and not path.is_file():
        pytest.skip(f"no published records at {path}")
    return path


def records_of(name: str) -> list[Record]:
    """Read the records of a file as they are."""
    records: list[Record] = json.loads(find(name).read_text("utf-8"))
    return records
