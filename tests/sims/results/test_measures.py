"""What is requested besides the prompts of requests, and what is refused."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from sims.results.measures import Measures, read_sources


def test_nothing_is_measured_unless_asked_for(tmp_path: Path) -> None:
    """No text, no task and no file is read."""
    plain = Measures()
    sources = read_sources(plain, tmp_path / "missing.json")
    assert not plain.writes
    assert plain.task_options is None
    assert (sources.references, sources.text, sources.tasks) == (None, None, None)


def test_options_become_settings() -> None:
    """Greedy is the one best token, and snippets ask for texts."""
    measures = Measures(greedy=True, snippets=Path("a"), tasks=" b, c ,", limit=3)
    assert measures.writes
    assert measures.evaluation.generation
    assert measures.evaluation.top_k == 1
    assert Measures(generation=True).evaluation.top_k == 5
    options = measures.task_options
    assert options is not None
    assert (options.names, options.limit) == (("b", "c"), 3)


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        (Measures(greedy=True), "--greedy needs --generation or --snippets"),
        (Measures(generation=True, idf=Path("a")), "--idf needs --snippets"),
        (Measures(vocabulary=Path("a")), "--tfidf-vocab needs --snippets"),
        (Measures(task_dir=Path("a")), "--task-dir needs --tasks"),
        (Measures(limit=3), "--limit needs --tasks"),
        (Measures(text=Path("missing.txt")), "--perplexity missing.txt: cannot"),
        (Measures(snippets=Path("missing.json")), "missing.json: cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_refused(measures: Measures, message: str) -> None:
    """Before a model is loaded, by the option's name."""
    with pytest.raises(InputError, match=message):
        read_sources(measures, Path("requests.json"))
