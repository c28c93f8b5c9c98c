"""Laws of the reference score, and of the published files."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from editing.base.errors import InputError
from editing.evaluation.references import References, read_references

SAMPLES = {
    ("P1", "Q1"): [("Ada", "harp harp viola"), ("Ben", "drum is a drum of harp")],
    ("P1", "Q2"): [("Cleo", "Rome Oslo")],
}


def write_snippets(folder: Path) -> Path:
    """Write snippets in the published form, one object's in two records."""
    entries = [
        {
            "relation_id": relation,
            "target_id": target,
            "name": "an object",
            "samples": [{"name": name, "text": text}],
        }
        for (relation, target), samples in SAMPLES.items()
        for name, text in samples
    ]
    path = folder / "attribute_snippets.json"
    path.write_text(json.dumps(entries))
    return path


def write_weights(folder: Path, weights: dict[str, float]) -> None:
    """Write the weights of words in the published form."""
    np.save(folder / "idf.npy", np.array(list(weights.values())))
    vocabulary = {word: place for place, word in enumerate(weights)}
    (folder / "tfidf_vocab.json").write_text(json.dumps(vocabulary))


@pytest.fixture
def references(tmp_path: Path) -> References:
    """Snippets with weights next to them."""
    write_weights(tmp_path, {"harp": 2.0, "viola": 3.0, "drum": 1.5, "rome": 4.0})
    return read_references(write_snippets(tmp_path))


def test_the_score_is_the_cosine_of_weighted_counts(references: References) -> None:
    """Of all texts and all snippets together; unknown words count for nothing."""
    weights = {"harp": 2.0, "viola": 3.0, "drum": 1.5, "rome": 4.0}
    texts = ["Harp and viola,", "viola!"]
    both = [
        Counter({"harp": 1, "viola": 2}),
        Counter({"harp": 3, "viola": 1, "drum": 2}),
    ]
    ours, theirs = ([each[w] * weights[w] for w in weights] for each in both)
    dot = sum(a * b for a, b in zip(ours, theirs, strict=True))
    expected = dot / math.hypot(*ours) / math.hypot(*theirs)
    assert references.score(texts, "P1", "Q1") == pytest.approx(expected)
    assert references.score(["Oslo"], "P1", "Q1") == 0
    assert references.score(texts, "P2", "Q1") is None


def test_the_essence_is_what_describes_the_subject(references: References) -> None:
    """By its name, among those with the object."""
    assert references.essence("P1", "Q1", "Ben") == ["drum is a drum of harp"]
    assert references.essence("P1", "Q2", "Ben") == []


def test_without_weights_they_are_counted_on_the_snippets(tmp_path: Path) -> None:
    """As saving and reading them again would have it."""
    path = write_snippets(tmp_path)
    counted = read_references(path)
    places = {str(k): int(v) for k, v in counted.vectorizer.vocabulary_.items()}
    np.save(tmp_path / "idf.npy", counted.vectorizer.idf_)
    (tmp_path / "tfidf_vocab.json").write_text(json.dumps(places))
    texts = ["a viola of Rome is no drum"]
    for key in SAMPLES:
        score = counted.score(texts, *key)
        assert score is not None
        assert read_references(path).score(texts, *key) == pytest.approx(score)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """By name; pickled arrays among them."""
    path = write_snippets(tmp_path)
    write_weights(tmp_path, {"harp": 2.0, "viola": 3.0})
    np.save(tmp_path / "idf.npy", np.ones(3))
    with pytest.raises(InputError, match=r"idf\.npy and .*tfidf_vocab\.json: wanted"):
        read_references(path)
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"
    size = len(header).to_bytes(2, "little")
    pickled = b"\x93NUMPY\x01\x00" + size + header + b"\x80\x04N."
    (tmp_path / "idf.npy").write_bytes(pickled)
    with pytest.raises(InputError, match="objects instead of numbers"):
        read_references(path)
    (tmp_path / "tfidf_vocab.json").unlink()
    with pytest.raises(InputError, match=r"tfidf_vocab\.json"):
        read_references(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("{}", "list"),
        ('[{"relation_id": "P1", "samples": []}]', "0.target_id"),
        ('[{"relation_id": "P1", "target_id": "Q1", "samples": []}]', "no snippet"),
    ],
)
def test_snippets_of_another_form_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    """By file and field."""
    path = tmp_path / "snippets.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"snippets\.json: .*{message}"):
        read_references(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_references(tmp_path / "missing.json")
