"""What is found in folders of results, what is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from editing.base.errors import InputError
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.requests.edit_request import EditRequest
from sims.results.cases import CaseFileError, read_case, read_run
from sims.results.folders.runs import Run, find_runs, join_runs
from tests.sims.case_folders import (
    draw_case,
    draw_question,
    measure,
    write,
    write_collabedits,
    write_memits,
    write_ours,
)
from tests.tiny import tiny_model

SINGLE = 1e-6
"""Absolute difference that probabilities in single precision leave."""


def only_run(folder: Path) -> Run:
    """Find the one run of a folder."""
    (run,) = find_runs(folder)
    return run


@pytest.mark.parametrize("case", [draw_case(4), draw_question(4)], ids=["mcf", "zsre"])
def test_a_case_has_the_metrics_of_the_definitions(
    tmp_path: Path, case: dict[str, Any]
) -> None:
    """Lists that it lacks give no metric, and no zero."""
    path = write(tmp_path / "7_edits-case_4.json", case)
    assert read_case(path) == {"": pytest.approx(measure(case), abs=SINGLE)}


def test_a_case_of_ours_has_the_directions_of_its_paraphrases(tmp_path: Path) -> None:
    """Apart for prompts that begin as the rewrite prompt does."""
    case = draw_case(0)
    case["post"]["paraphrase_prompts_same_direction"] = [True, False, False]
    path = write(tmp_path / "case_0.json", case)
    won = [
        100.0 * (each["target_new"] < each["target_true"])
        for each in case["post"]["paraphrase_prompts_probs"]
    ]
    metrics = read_case(path)[""]
    assert metrics["paraphrase_success.same_direction"] == won[0]
    assert metrics["paraphrase_success.other_direction"] == sum(won[1:]) / 2


def test_a_case_is_read_as_the_run_measured_it(tmp_path: Path) -> None:
    """With and without an object that the unedited model says."""
    known = EditRequest(
        case_id=0,
        prompt="{} works for",
        subject="Ada Lovelace",
        target_new="Acme Works",
        target_true="North Group",
        paraphrase_prompts=("Ada Lovelace works for", "the employer of Ada is"),
        neighborhood_prompts=("Ben Stone works for",),
    )
    unknown = known.model_copy(update={"case_id": 1, "target_true": None})
    for case in evaluate_requests(tiny_model(), [known, unknown]):
        measured = sum_cases([case]).means()
        measured.pop("score", None)
        path = write(tmp_path / f"case_{case['case_id']}.json", case)
        assert read_case(path) == {"": measured}


@pytest.mark.parametrize("level", ["global_edit", "collaborative_edit"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_level_of_collabedit_is_a_part_of_the_run(
    tmp_path: Path, level: str, *, as_folder: bool
) -> None:
    """Whether it is a key of the file or a folder, marked or not."""
    folder, cases = tmp_path / "old", [draw_case(1), draw_case(2)]
    if as_folder:
        write_memits(folder / level, cases)
    else:
        write_collabedits(folder, cases, level)
    run = only_run(tmp_path)
    read = read_run(run)
    assert run.path == folder
    assert list(read.parts) == [level]
    assert list(map(dict, read.parts[level])) == [
        pytest.approx(measure(case), abs=SINGLE) for case in cases
    ]
    assert read.faults == ()


def test_both_levels_of_a_file_are_read(tmp_path: Path) -> None:
    """Each as a case of its own part."""
    levels = {"global_edit": draw_case(3), "collaborative_edit": draw_case(3, seed=1)}
    read = read_case(write(tmp_path / "2_edits-case_3.json", levels))
    assert list(read) == list(levels)
    assert read["global_edit"] != read["collaborative_edit"]


def nothing() -> dict[str, Any]:
    """A case without anything evaluated."""
    return {"case_id": 5, "post": {"rewrite_prompts_probs": []}}


def mixed() -> dict[str, Any]:
    """A case with a prompt that lacks the true object."""
    case = draw_case(5)
    del case["post"]["paraphrase_prompts_probs"][1]["target_true"]
    return case


def changed(likelihood: object) -> dict[str, Any]:
    """A case with another likelihood in one place."""
    case = draw_case(5)
    case["post"]["rewrite_prompts_probs"][0]["target_new"] = likelihood
    return case


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ('{"case_id": 5, "post": {', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "wanted a JSON object, got list"),
        ("{}", "`case_id`: is missing or null; wanted a whole"),
        (json.dumps(draw_case(6)), "`case_id` is 6, and the name says 5"),
        (json.dumps({"case_id": 5}), "`post`: is missing or null; wanted an object"),
        (json.dumps(nothing()), "`post` holds no prompt that was evaluated"),
        (json.dumps(mixed()), "`paraphrase_prompts_probs` have no `target_true`"),
        (
            json.dumps(changed(float("nan"))),
            "target_new`: wanted a finite number, got ",
        ),
        (
            json.dumps(changed(float("inf"))),
            "target_new`: wanted a finite number, got ",
        ),
        (json.dumps(changed("0.5")), "probs.0.target_new`: wanted a number, got"),
        (json.dumps(changed(-4.0)), "target_new`: wanted a number greater than"),
        ('{"global_edit": {}, "collaborative_edit": {}}', "both empty"),
        ('{"global_edit": {"case_id": 5}}', "`global_edit.post`: is missing or null"),
        ('{"global_edit": [5]}', "`global_edit`: wanted an object, got [5]"),
    ],
)
def test_a_broken_file_is_named_with_its_reason(
    tmp_path: Path, text: str, reason: str
) -> None:
    """And the other cases are read."""
    broken = tmp_path / "case_5.json"
    broken.write_text(text)
    write_ours(tmp_path, [draw_case(4)])
    with pytest.raises(CaseFileError) as caught:
        read_case(broken)
    assert reason in str(caught.value)
    read = read_run(only_run(tmp_path))
    assert [len(cases) for cases in read.parts.values()] == [1]
    assert [(each.path, each.reason) for each in read.faults] == [
        (broken, str(caught.value))
    ]


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    """As one that is not JSON."""
    path = tmp_path / "case_5.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CaseFileError, match="not JSON"):
        read_case(path)


def test_a_file_of_another_name_is_named_and_params_and_report_are_not(
    tmp_path: Path,
) -> None:
    """However deep in the run it lies."""
    run = tmp_path / "MEMIT" / "run_002"
    write_memits(run, [draw_case(0)])
    for name in ("params.json", "report.json", "notes.json", "more/case_x.json"):
        write(run / name, {})
    write(tmp_path / "world.json", {})
    faults = read_run(only_run(tmp_path)).faults
    assert {fault.path.relative_to(run).as_posix() for fault in faults} == {
        "notes.json",
        "more/case_x.json",
    }


def test_a_run_without_cases_is_named(tmp_path: Path) -> None:
    """As one that ended before its evaluation."""
    write(tmp_path / "MEMIT" / "run_000" / "params.json", {})
    (fault,) = read_run(only_run(tmp_path)).faults
    assert fault.path == tmp_path / "MEMIT" / "run_000"
    assert fault.reason == "holds no case files"


def test_a_case_counts_once_in_a_folder(tmp_path: Path) -> None:
    """A second file of it is named; in another folder it is another part's."""
    write_memits(tmp_path, [draw_case(0)], edits=1)
    write_memits(tmp_path, [draw_case(0)], edits=10)
    write(tmp_path / "params.json", {})
    write_ours(tmp_path / "ties", [draw_case(0)])
    read = read_run(only_run(tmp_path))
    assert {part: len(cases) for part, cases in read.parts.items()} == {
        "": 1,
        "ties": 1,
    }
    (fault,) = read.faults
    assert fault.reason == "case 0 was read before, from 10_edits-case_0.json"


def test_the_first_cases_are_those_with_the_lowest_numbers(tmp_path: Path) -> None:
    """By number and not by name, and with broken ones counted among them."""
    cases = [draw_case(number) for number in (2, 10, 9, 30)]
    write_ours(tmp_path, cases)
    (tmp_path / "case_9.json").write_text("")
    (tmp_path / "case_30.json").write_text("")
    read = read_run(only_run(tmp_path), first=3)
    assert list(map(dict, read.parts[""])) == [
        pytest.approx(measure(case), abs=SINGLE) for case in cases[:2]
    ]
    assert [fault.path.name for fault in read.faults] == ["case_9.json"]


def test_a_comparison_is_one_run_with_a_part_for_each_merge(tmp_path: Path) -> None:
    """Found from its folder, from one above and from one below."""
    run = tmp_path / "results" / "compare" / "run_000"
    write(run / "report.json", {})
    for merge in ("ties", "global"):
        write_ours(run / merge, [draw_case(0)])
    for folder, parts in {
        tmp_path: {"ties", "global"},
        run: {"ties", "global"},
        run / "ties": {"ties"},
    }.items():
        assert only_run(folder).path == run
        assert set(read_run(only_run(folder)).parts) == parts


def test_a_run_in_a_folder_of_any_name_is_known_by_its_report(tmp_path: Path) -> None:
    """And its merges are its parts."""
    write(tmp_path / "mine" / "report.json", {})
    write_ours(tmp_path / "mine" / "ties", [draw_case(0)])
    run = only_run(tmp_path)
    assert (run.path, run.group) == (tmp_path / "mine", tmp_path / "mine")
    assert list(read_run(run).parts) == ["ties"]


def test_drafts_of_runs_that_go_on_are_passed_by(tmp_path: Path) -> None:
    """Their folders are hidden."""
    write_ours(tmp_path / ".run_000.partial-1", [draw_case(0)])
    assert find_runs(tmp_path) == []


def test_runs_are_joined_where_folders_overlap(tmp_path: Path) -> None:
    """No file is read twice."""
    run = tmp_path / "MEMIT" / "run_000"
    write_ours(run, [draw_case(0), draw_case(1)])
    assert join_runs([find_runs(tmp_path), find_runs(run)]) == find_runs(run)


def test_a_run_answers_to_its_name_and_to_its_number() -> None:
    """And a run of another name to that name."""
    numbered, named = Run(Path("a/run_007"), ()), Run(Path("a/mine"), ())
    words = ("run_007", "7", "007", "8", "mine", "run_7", "")
    assert [word for word in words if numbered.answers_to(word)] == [
        "run_007",
        "7",
        "007",
    ]
    assert [word for word in words if named.answers_to(word)] == ["mine"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(InputError, match="elsewhere is no folder"):
        find_runs(tmp_path / "elsewhere")
