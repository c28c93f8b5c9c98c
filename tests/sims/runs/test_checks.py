"""What is validated before anything is started."""

import json
import re
import sys
from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.editors.choice import EditorChoice
from editing.evaluation.config import EvaluationConfig
from editing.models.loading import ModelError, load_tokenizer
from editing.requests.edit_request import EditRequest, Question
from editing.requests.questions import BenchmarkQuestion
from editing.sources.embedded import locate_embedded
from server.config import RunConfig
from sims.runs.checks import answer, check_early, check_fit, settle_privacy
from sims.runs.engines import CONNECTION, DEPLOYMENT, IN_PROCESS
from strategies.partitioning.settings import PartiesConfig, RequestsConfig
from strategies.scenario import PriorConfig, PrivacyConfig


def ask(subject: str) -> EditRequest:
    """A request about somebody."""
    return EditRequest(
        case_id=3, prompt="{} works for", subject=subject, target_new="Somebody"
    )


def test_a_subject_longer_than_the_context_is_named_before_the_run() -> None:
    """And one that just fits is not."""
    model = str(locate_embedded())
    _, longest = load_tokenizer(model)
    check_fit(model, [ask("Anna")])
    with pytest.raises(InputError, match=f"Request 3: .* model reads {longest}"):
        check_fit(model, [ask("Anna"), ask("Anna " * longest)])


@pytest.mark.parametrize(
    "field", ["paraphrase_prompts", "neighborhood_prompts", "attribute_prompts"]
)
def test_a_prompt_longer_than_the_context_is_named_before_the_run(field: str) -> None:
    """With its case and field; attribute prompts only where they are evaluated."""
    model = str(locate_embedded())
    _, longest = load_tokenizer(model)
    changed = {field: ("Anna works for", "Anna " * longest)}
    request = ask("Anna").model_copy(update=changed)
    with pytest.raises(InputError, match=f"Request 3: .*`{field}`.* reads {longest}"):
        check_fit(model, [request], EvaluationConfig(attribute_prompts=True))
    if field == "attribute_prompts":
        check_fit(model, [request])


@pytest.mark.parametrize("field", ["locality", "portability"])
def test_a_question_longer_than_the_context_is_named_before_the_run(field: str) -> None:
    """An answer counts, too."""
    model = str(locate_embedded())
    _, longest = load_tokenizer(model)
    fits, is_long = (
        ask("Anna").model_copy(
            update={field: (Question(prompt="Anna is", answers=("good", answer)),)}
        )
        for answer in ("kind", "kind " * longest)
    )
    check_fit(model, [fits])
    with pytest.raises(InputError, match=f"Request 3: .*`{field}`.* reads {longest}"):
        check_fit(model, [fits, is_long])


@pytest.mark.parametrize("kind", ["wikibigedit_multi_hop", "mquake_multi_hop"])
def test_a_question_of_a_benchmark_is_named_before_the_run(kind: str) -> None:
    """With the examples before it; one that is not asked for is not read."""
    model = str(locate_embedded())
    _, longest = load_tokenizer(model)
    question = BenchmarkQuestion.model_validate(
        {"kind": kind, "prompt": "Q: Anna? A:", "answers": ["kind"]}
    )
    request = ask("Anna").model_copy(update={"benchmark_questions": (question,)})
    check_fit(model, [request])
    endless = "kind " * longest
    is_long = question.model_copy(update={"prompt": endless})
    request = request.model_copy(update={"benchmark_questions": (is_long,)})
    named = f"Request 3: .*`benchmark_questions`.* reads {longest}"
    with pytest.raises(InputError, match=named):
        check_fit(model, [request])
    if kind == "mquake_multi_hop":
        check_fit(model, [request], EvaluationConfig(generated_answers="never"))
        request = request.model_copy(update={"benchmark_questions": (question,)})
        with pytest.raises(InputError, match=named):
            check_fit(model, [request], EvaluationConfig(examples=endless))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """The message says what was wanted."""
    with pytest.raises(ModelError, match="no causal language model can be loaded"):
        check_fit(str(tmp_path), [ask("Anna")])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.txt", None, "cannot be read as text.*No such file"),
        ("empty.txt", b"", "is empty"),
        ("blank.txt", b"\n  \n", "is empty"),
        ("cut.jsonl", b'{"text": "one"}\n{"body": "two"}\n', "record 2.*`text` holds"),
        ("bytes.txt", b"one\n\xff\n", "cannot be read as text"),
    ],
)
def test_a_bad_text_for_all_parties_is_named_before_the_run(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    """With its setting, where each party would only say that its text is bad."""
    text = tmp_path / name
    if content is not None:
        text.write_bytes(content)
    prior = PriorConfig(covariance="federated", text=str(text))
    with pytest.raises(InputError, match=rf"`prior\.text`: .*{name}.*{reason}"):
        check_early(RunConfig(prior=prior), tmp_path / "results")


def test_a_text_that_can_be_shared_out_is_not_refused(tmp_path: Path) -> None:
    """The embedded one, and one of our own."""
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    for text in ("embedded", str(tmp_path / "a.txt")):
        prior = PriorConfig(covariance="federated", text=text)
        check_early(RunConfig(prior=prior), tmp_path / "results")


def test_a_request_without_a_subject_is_refused_by_its_number(tmp_path: Path) -> None:
    """Before the run, unless the editor reads at the answer."""
    file = tmp_path / "questions.json"
    asked = {"case_id": 8, "prompt": "Who is the mayor?", "target_new": "Ada Stone"}
    file.write_text(json.dumps([asked]))
    config = RunConfig(
        requests=RequestsConfig(source=str(file)),
        parties=PartiesConfig(count=1, requests_per_round=1),
    )
    with pytest.raises(InputError, match="Request 8 has no subject"):
        check_early(config, tmp_path / "results")
    chosen = config.model_copy(update={"editor": EditorChoice(name="stableedit")})
    check_early(chosen, tmp_path / "results")


def test_an_answer_to_another_process_is_what_the_check_finds_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths are those of the asking process, from whose folder they are read."""
    monkeypatch.chdir("/")
    (tmp_path / "pool.json").write_text("no requests")
    cases = {"embedded": None, "pool.json": r"pool\.json"}
    for source, refused in cases.items():
        config = RunConfig(requests=RequestsConfig(source=source))
        asked = [config.model_dump_json(), "results", "flower", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["answer", json.dumps(asked)])
        answer()
        found = json.loads(capsys.readouterr().out.splitlines()[-1])["refused"]
        if refused is None:
            assert found is None
        else:
            assert re.search(refused, found)
            with pytest.raises(InputError, match=refused):
                check_early(config, Path("results"), "flower")


@pytest.mark.parametrize(
    ("engine", "merge", "chosen", "masked"),
    [
        (DEPLOYMENT, "collabedit", None, True),
        (f"{CONNECTION}federation", "collabedit", None, True),
        (f"{CONNECTION}federation", "ties", None, False),
        (f"{CONNECTION}federation", "collabedit", False, False),
        (IN_PROCESS, "collabedit", None, False),
        ("flower", "collabedit", None, False),
        (IN_PROCESS, "collabedit", True, True),
    ],
)
def test_real_parties_sum_under_masks_unless_they_say_otherwise(
    engine: str, merge: str, chosen: bool | None, masked: bool
) -> None:
    """If the merge needs no more than the sum."""
    config = RunConfig(privacy=PrivacyConfig(secure_sum=chosen))
    named = config.merge.model_copy(update={"name": merge})
    settled = settle_privacy(config.model_copy(update={"merge": named}), engine)
    assert settled.privacy.secure_sum is masked


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"merge": {"name": "ties"}}, "ties solves for each party alone"),
        ({"parties": {"count": 2}}, "Set `parties.count` to 3 or more"),
        ({"parties": {"count": 4, "without": (0, 3)}}, "a sum of 2 parties"),
    ],
)
def test_masks_that_cannot_be_are_refused_before_the_run(
    tmp_path: Path, changed: dict[str, dict[str, object]], reason: str
) -> None:
    """With the reason, and what to set."""
    config = RunConfig.model_validate({"privacy": {"secure_sum": True}, **changed})
    with pytest.raises(InputError, match=reason):
        check_early(config, tmp_path / "results")
