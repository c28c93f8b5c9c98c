"""Evaluating a delta file by edit requests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import pytest
import torch

from editing.algebra.deltas import save_delta
from editing.base.errors import InputError
from editing.evaluation.metrics import BENCHMARK_ANSWERED, BENCHMARKS
from editing.evaluation.perplexity import read_surprise
from editing.requests.edit_request import EditRequest, Question, to_counterfact
from editing.requests.forms.zsre import ZsreTarget
from sims.results.evaluation import evaluate_with_delta
from sims.results.measures import Measures
from tests.editing.records import MQUAKE, QAEDIT, WIKIBIGEDIT
from tests.tiny import LAYERS, tiny_model

REQUEST = EditRequest(
    case_id=7,
    prompt="{} works for",
    subject="Ada Lovelace",
    target_new="Acme Works",
    target_true="North Group",
    paraphrase_prompts=("the employer of Ada Lovelace is",),
    neighborhood_prompts=("Ben Stone works for",),
)


class Files:
    """A model's folder, a file of requests and deltas for the model."""

    def __init__(self, folder: Path) -> None:
        """Write a tiny model in single precision, and one request."""
        self.folder, self.model = folder, folder / "model"
        self.editable = tiny_model(dtype=torch.float32)
        self.editable.model.save_pretrained(self.model)
        self.editable.tokenizer.save_pretrained(self.model)
        self.requests = folder / "requests.json"
        self.requests.write_text(json.dumps([to_counterfact(REQUEST)]))

    def delta(self, size: float, width: int = 0, base: str | None = None) -> Path:
        """Write a delta whose updates are `size` times a fixed draw."""
        draw = torch.Generator().manual_seed(0)
        updates = {}
        for layer in LAYERS:
            d_out, d_in = self.editable.widths(layer)
            update = torch.randn(d_out, d_in + width, generator=draw)
            updates[self.editable.weight_name(layer)] = size * update
        path = self.folder / "delta.safetensors"
        save_delta(updates, path, {"base": base or self.editable.fingerprint})
        return path

    def evaluate(
        self, name: str, delta: Path | None = None, measures: Measures | None = None
    ) -> Mapping[str, Any]:
        """Evaluate, and read the results."""
        output = self.folder / "out" / name
        evaluate_with_delta(
            str(self.model), self.requests, output, delta, measures=measures
        )
        written: Mapping[str, Any] = json.loads(output.read_text())
        return written


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Lend a model and a request on disk."""
    return Files(tmp_path)


def test_a_delta_of_zeros_changes_nothing(files: Files) -> None:
    """And another one does."""
    bare = files.evaluate("bare.json")
    assert files.evaluate("zero.json", files.delta(0))["cases"] == bare["cases"]
    assert files.evaluate("edit.json", files.delta(1))["cases"] != bare["cases"]


def test_cases_and_metrics_are_written(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under MEMIT's names, and shown under names in full."""
    written = files.evaluate("a.json")
    metrics, cases = written["metrics"], written["cases"]
    assert isinstance(metrics, dict)
    assert isinstance(cases, list)
    assert [case["case_id"] for case in cases] == [7]
    assert {"rewrite_success", "paraphrase_acc", "score"} <= metrics.keys()
    assert "Neighbourhood success" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "0" * 64}, "made for a model with weights 000000000000"),
        ({"width": 1}, r"\(16, 25\), and the weight wants \(16, 24\)"),
    ],
)
def test_a_delta_of_another_model_is_refused(
    files: Files, options: dict[str, Any], message: str
) -> None:
    """By its weights' digest, and by its widths."""
    with pytest.raises(InputError, match=message):
        files.evaluate("a.json", files.delta(1, **options))


def test_what_is_no_delta_is_refused(files: Files) -> None:
    """By name."""
    with pytest.raises(InputError, match=r"requests\.json: no delta file"):
        files.evaluate("a.json", files.requests)


def test_earlier_results_are_never_overwritten(files: Files) -> None:
    """State what to do instead."""
    files.evaluate("a.json")
    with pytest.raises(InputError, match=r"a\.json exists .*name another"):
        files.evaluate("a.json")


def test_requests_of_the_hub_and_of_saved_folders_are_evaluated(files: Files) -> None:
    """As those of a file are, and by what was edited in of zsRE."""
    bare = files.evaluate("bare.json")
    saved = files.folder / "saved"
    datasets.Dataset.from_list([to_counterfact(REQUEST)]).save_to_disk(saved)
    hub = files.folder / "owner" / "name"
    hub.mkdir(parents=True)
    files.requests.rename(hub / "test.json")
    for source in (saved, Path(f"hub:{hub}")):
        output = files.folder / f"{source.name}.json"
        evaluate_with_delta(str(files.model), source, output)
        assert json.loads(output.read_text())["cases"] == bare["cases"]
    record = {"subject": "Ada", "src": "Who is Ada?", "answers": ["Acme Works"]}
    files.requests.write_text(json.dumps([{**record, "alt": "North Group"}]))
    evaluated: list[float] = []
    targets: tuple[ZsreTarget, ...] = ("answers", "alt")
    for target in targets:
        output = files.folder / f"{target}.json"
        evaluate_with_delta(
            str(files.model), files.requests, output, zsre_target=target
        )
        (case,) = json.loads(output.read_text())["cases"]
        evaluated.append(case["post"]["rewrite_prompts_probs"][0]["target_new"])
    assert evaluated[0] != evaluated[1]


def test_texts_are_written_and_their_measures_shown(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what words were cut, and what was left out for want of snippets."""
    request = REQUEST.model_copy(update={"generation_prompts": ("Ada Lovelace", "the")})
    files.requests.write_text(json.dumps([to_counterfact(request)]))
    measures = Measures(generation=True, max_tokens=12)
    written = files.evaluate("a.json", measures=measures)
    (case,) = written["cases"]
    assert len(case["post"]["text"]) == 2
    entropy = 100 * case["post"]["ngram_entropy"]
    assert written["metrics"]["ngram_entropy"] == pytest.approx(entropy)
    first, second = written["notes"]
    assert "of 1 of 1 cases" in first
    assert "nltk" in first
    assert "left out" in second
    shown = capsys.readouterr().out
    assert "N-gram entropy" in shown
    assert second in shown
    again = files.evaluate("b.json", measures=measures)
    assert again["cases"] == written["cases"]
    for name, value in {"seed": 1, "greedy": True}.items():
        changed = measures.model_copy(update={name: value})
        other = files.evaluate(f"{name}.json", measures=changed)
        assert other["cases"] != written["cases"]


def test_snippets_bring_the_reference_score_and_the_essence(files: Files) -> None:
    """By the number that the record gives the new object."""
    request = REQUEST.model_copy(
        update={"generation_prompts": ("Ada Lovelace",), "relation_id": "P108"}
    )
    record: Any = to_counterfact(request)
    record["requested_rewrite"]["target_new"]["id"] = "Q9"
    files.requests.write_text(json.dumps([record]))
    text = "Ada Lovelace works for Acme Works in Rome"
    samples = [{"name": "Ada Lovelace", "text": text}]
    entry = {"relation_id": "P108", "target_id": "Q9", "samples": samples}
    snippets = files.folder / "attribute_snippets.json"
    snippets.write_text(json.dumps([entry]))
    measures = Measures(snippets=snippets, max_tokens=16)
    written = files.evaluate("a.json", measures=measures)
    post = written["cases"][0]["post"]
    assert post["essence_text"] == [text]
    assert written["metrics"]["essence_score"] == post["essence_score"]
    assert written["metrics"]["reference_score"] == pytest.approx(
        100 * post["reference_score"]
    )
    assert [note.split(":")[0] for note in written["notes"]] == [
        "n-gram entropy",
        "reference score",
        "essence perplexity",
    ]


def test_a_text_is_read_before_and_after(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a delta there is one number, with one there are two."""
    text = files.folder / "text.txt"
    text.write_text("the employer of Ada is Acme Works , said Ben . " * 9)
    measures = Measures(text=text)
    bare = files.evaluate("bare.json", measures=measures)
    edit = files.evaluate("edit.json", files.delta(1), measures)
    expected = read_surprise(files.editable, text.read_text()).perplexity
    assert bare["perplexity"]["after"] == pytest.approx(expected, rel=1e-5)
    assert edit["perplexity"]["before"] == bare["perplexity"]["after"]
    assert edit["perplexity"]["after"] != edit["perplexity"]["before"]
    assert "Perplexity" in capsys.readouterr().out


def test_questions_are_compared_with_the_unedited_model(files: Files) -> None:
    """A delta of zeros changes no answer."""
    asked = (Question(prompt="Hal lives in", answers=("Acme Works",)),)
    request = REQUEST.model_copy(update={"locality": asked})
    files.requests.write_text(json.dumps([to_counterfact(request)]))
    zero = files.evaluate("zero.json", files.delta(0))["metrics"]
    assert zero["locality_unchanged"] == 100
    large = files.evaluate("large.json", files.delta(9))["metrics"]
    assert large["locality_unchanged"] < 100


def test_benchmarks_own_metrics_are_written_with_their_definitions(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over all cases; freely answered ones only where answers are asked for."""
    locality = {"locality": [{"loc": "Hal lives in", "loc_ans": "Oslo"}]}
    records = [MQUAKE, {**QAEDIT, **locality}, WIKIBIGEDIT]
    files.requests.write_text(json.dumps(records))
    for size, unchanged in ((0, 100), (9, 0)):
        measures = Measures(answers=True, answer_tokens=4)
        written = files.evaluate(f"{size}.json", files.delta(size), measures)
        assert {*BENCHMARKS} <= written["metrics"].keys()
        assert written["metrics"]["qaedit_locality_unchanged"] == unchanged
        definitions = written["definitions"]
        assert definitions["mquake_multi_hop_acc"].endswith("any.v1.tokens-4")
    shown = " ".join(capsys.readouterr().out.split())
    assert "MQuAKE multi-hop" in shown
    assert "WikiBigEdit persona" in shown
    examples = files.folder / "examples.txt"
    examples.write_text("Q: who is Ben ? A: Cleo\n")
    shown_first = Measures(examples=examples, answer_tokens=4)
    written = files.evaluate("examples.json", measures=shown_first)
    assert ".examples-" in written["definitions"]["mquake_multi_hop_acc"]
    missing = Measures(examples=files.folder / "none.txt")
    with pytest.raises(InputError, match=r"--examples .*none\.txt: cannot be read"):
        files.evaluate("missing.json", measures=missing)
    silent = files.evaluate("silent.json", None, Measures(answers=False))["metrics"]
    assert not {*BENCHMARK_ANSWERED} & silent.keys()
    assert "wikibigedit_multi_hop_acc" in silent


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_update_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    """Its metrics would be those of no model."""
    files = Files(tmp_path)
    path = files.delta(value)
    with pytest.raises(InputError, match="NaN or infinite"):
        evaluate_with_delta(str(files.model), files.requests, tmp_path / "o.json", path)


def test_the_file_of_cases_admits_its_owner_alone(tmp_path: Path) -> None:
    """It holds the requests."""
    files = Files(tmp_path)
    output = tmp_path / "new" / "o.json"
    evaluate_with_delta(str(files.model), files.requests, output)
    assert output.stat().st_mode & 0o777 == 0o600
    assert output.parent.stat().st_mode & 0o777 == 0o700
