"""The private folder keeps what a party never sends, and nobody else reads it."""

import json
import stat
from pathlib import Path

import pytest
import torch
from flwr.app import Context, RecordDict

from clients.storage import PrivateFolder, name_target
from editing.config import Plan
from editing.requests import EditRequest
from strategies.messages import Job, ModelIdentity
from tests.federation import world_requests
from tests.tiny import PARAMETERS, TEMPLATES

PLAN = Plan(parameters=PARAMETERS, schedule="layerwise", templates=TEMPLATES)
JOB = Job(identity=ModelIdentity(weights="w", tokenizer="t"), plan=PLAN, round=1)
REQUEST = world_requests()[0]


def context_of(run_id: int = 7, **node_config: str) -> Context:
    """Make the context of a node in a run."""
    return Context(
        run_id=run_id,
        node_id=2,
        node_config={**node_config},
        state=RecordDict(),
        run_config={},
    )


def test_a_run_has_a_folder_of_its_own_where_the_node_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's setting goes before the environment's."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    monkeypatch.delenv("COLLABEDIT_HOME", raising=False)
    found = [PrivateFolder.of_run(context_of()).path]
    monkeypatch.setenv("COLLABEDIT_HOME", str(tmp_path / "home"))
    found.append(PrivateFolder.of_run(context_of()).path)
    private = {"private-folder": str(tmp_path / "private")}
    found.append(PrivateFolder.of_run(context_of(8, **private)).path)
    places = ("flower/collabedit/7", "home/7", "private/8")
    assert found == [tmp_path / place for place in places]


def test_a_target_is_found_again_bit_for_bit_until_it_is_forgotten(
    tmp_path: Path,
) -> None:
    """Case files stay for their owner."""
    folder = PrivateFolder(tmp_path / "run")
    assert folder.find_target("a") is None
    target = torch.randn(6, dtype=torch.float64, requires_grad=True)
    folder.keep_target("a", target)
    folder.keep_target("b", target[::2])
    folder.keep_cases(JOB, 3, [{"case_id": 5, "post": {"é": 1}}])
    found = folder.find_target("a")
    assert found is not None
    assert torch.equal(found, target)
    assert not found.requires_grad
    assert torch.equal(folder.find_target("b"), target[::2])  # type: ignore[arg-type]
    folder.forget()
    assert folder.find_target("a") is None
    (case,) = (tmp_path / "run").rglob("*.json")
    assert case == tmp_path / "run/cases/run/round_1/party_3/case_5.json"
    assert json.loads(case.read_text()) == {"case_id": 5, "post": {"é": 1}}
    assert list((tmp_path / "run").rglob("*partial*")) == []
    folder.forget()


@pytest.mark.parametrize("exists", [True, False])
def test_only_the_owner_reads_the_folder(tmp_path: Path, exists: bool) -> None:
    """Whatever the umask is, and whoever made the folder."""
    path = tmp_path / "run"
    if exists:
        path.mkdir(mode=0o755)
    PrivateFolder(path).keep_target("a", torch.zeros(2))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("label", ["../../../elsewhere", "/elsewhere", "..", "a.b:C"])
def test_a_label_from_the_server_does_not_lead_out_of_the_folder(
    tmp_path: Path, label: str
) -> None:
    """The server names parts of a run and no places on a party's disk."""
    run = tmp_path / "deep" / "er" / "run"
    job = JOB.model_copy(update={"label": label})
    PrivateFolder(run).keep_cases(job, 0, [{"case_id": 1}])
    (case,) = tmp_path.rglob("case_1.json")
    assert case.resolve().is_relative_to((run / "cases").resolve())
    assert len(case.relative_to(run).parts) == 5


def plan_with(**changes: float | tuple[int, ...]) -> Job:
    """Change the job's hyperparameters."""
    parameters = PARAMETERS.model_copy(update=changes)
    return JOB.model_copy(
        update={"plan": PLAN.model_copy(update={"parameters": parameters})}
    )


def test_a_target_is_filed_under_all_that_it_depends_on() -> None:
    """Request, hyperparameters, templates, model, tokenizer and earlier updates."""
    requests = [REQUEST] + [
        REQUEST.model_copy(update={field: value})
        for field, value in (
            ("prompt", "{} speaks"),
            ("subject", "Hal"),
            ("target_new", "viola"),
        )
    ]
    templates = PLAN.model_copy(update={"templates": TEMPLATES[:2]})
    jobs = [
        plan_with(v_lr=0.1),
        plan_with(layers=(1,)),
        JOB.model_copy(update={"plan": templates}),
        JOB.model_copy(update={"identity": ModelIdentity(weights="v", tokenizer="t")}),
        JOB.model_copy(update={"identity": ModelIdentity(weights="w", tokenizer="u")}),
        JOB.model_copy(update={"before": "other updates"}),
    ]
    names = [name_target(each, JOB) for each in requests]
    names += [name_target(REQUEST, job) for job in jobs]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "update",
    [
        {"label": "ties"},
        {"round": 2},
        {"layers": (2,)},
        {"encoding": "dense"},
        {"pooled": True},
        {"plan": PLAN.model_copy(update={"schedule": "frozen-uniform"})},
    ],
    ids=lambda update: next(iter(update)),
)
def test_merges_and_schedules_that_are_compared_share_targets(
    update: dict[str, object],
) -> None:
    """A target does not depend on how statistics are read, sent and merged."""
    other = JOB.model_copy(update=update)
    assert other != JOB
    assert name_target(REQUEST, other) == name_target(REQUEST, JOB)


def test_prompts_that_only_judge_do_not_change_a_target() -> None:
    """Nor does the number of the case."""
    fields: dict[str, object] = {
        "case_id": 1,
        "target_true": None,
        "paraphrase_prompts": (),
        "neighborhood_prompts": ("Hal lives in",),
    }
    other = EditRequest.model_validate({**REQUEST.model_dump(), **fields})
    assert name_target(other, JOB) == name_target(REQUEST, JOB)
