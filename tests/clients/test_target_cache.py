"""What is found in the cache is what was kept, and belongs to just what is asked."""

import os
import signal
import stat
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import clients.target_cache
from clients.target_cache import (
    TargetCache,
    cache_folder,
    clear_cache,
    describe_cache,
    name_targets,
)
from editing.hyperparameters.config import Plan
from editing.memit.targets import Targets
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from strategies.wire.messages import Job, ModelIdentity
from tests.federation import world_requests
from tests.tiny import PARAMETERS, TEMPLATES, tiny_model

PLAN = Plan(parameters=PARAMETERS, schedule="layerwise", templates=TEMPLATES)
JOB = Job(identity=ModelIdentity(weights="w", tokenizer="t"), plan=PLAN, round=1)
REQUESTS = world_requests()[:3]
NAMES = [letter * 64 for letter in "abc"]


def kept_of(seed: int, dtype: torch.dtype = torch.float32) -> Targets:
    """Draw targets."""
    generator = torch.Generator().manual_seed(seed)
    hidden, shift = torch.randn(2, 3, 8, generator=generator).to(dtype)
    loss = torch.rand(3, generator=generator).to(dtype)
    stopped, clamped = torch.rand(2, 3, generator=generator) > 0.5
    return Targets(hidden, shift, loss, stopped, clamped)


def assert_same_kept(found: Targets | None, kept: Targets) -> None:
    """Compare every field to the last bit, with its precision."""
    assert found is not None
    for each in fields(Targets):
        ours, theirs = getattr(found, each.name), getattr(kept, each.name)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_kept_is_found_bit_for_bit_under_its_name_alone(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    """In any precision."""
    cache = TargetCache(tmp_path / "deep" / "cache")
    assert cache.find(NAMES[0]) is None
    first, second = kept_of(0, dtype), kept_of(1, dtype)
    cache.keep(NAMES[0], first)
    cache.keep(NAMES[1], second)
    assert_same_kept(cache.find(NAMES[0]), first)
    assert_same_kept(TargetCache(cache.path).find(NAMES[1]), second)
    assert cache.find(NAMES[2]) is None
    assert len(list(cache.path.iterdir())) == 2


def test_what_is_there_stays(tmp_path: Path) -> None:
    """Another process may be reading it."""
    cache = TargetCache(tmp_path)
    cache.keep(NAMES[0], kept_of(0))
    (file,) = tmp_path.iterdir()
    before = file.stat()
    cache.keep(NAMES[0], kept_of(0))
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "bit"])
def test_a_broken_file_is_not_found_and_then_replaced(
    tmp_path: Path, damage: str
) -> None:
    """Whether it is cut short or holds other numbers."""
    cache, kept = TargetCache(tmp_path), kept_of(0)
    cache.keep(NAMES[0], kept)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    broken = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "other": b"no tensors at all, but some text",
        "bit": whole[:-1] + bytes([whole[-1] ^ 1]),
    }
    file.write_bytes(broken[damage])
    assert cache.find(NAMES[0]) is None
    cache.keep(NAMES[0], kept)
    assert_same_kept(cache.find(NAMES[0]), kept)


def test_an_entry_of_an_earlier_version_is_computed_anew(tmp_path: Path) -> None:
    """It has other tensors under its own check sum; it is no error, and is replaced."""
    cache, kept = TargetCache(tmp_path), kept_of(0)
    old = {"targets": kept.states, "hidden": kept.hidden}
    save_file(old, tmp_path / f"{NAMES[0]}.safetensors", {"sum": "0" * 64})
    assert cache.find(NAMES[0]) is None
    cache.keep(NAMES[0], kept)
    assert_same_kept(cache.find(NAMES[0]), kept)


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    """A target reveals its request; a folder that is there keeps its mode."""
    made, given = tmp_path / "made", tmp_path / "given"
    given.mkdir(mode=0o755)
    for folder in (made, given):
        TargetCache(folder).keep(NAMES[0], kept_of(0))
        (file,) = folder.iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert stat.S_IMODE(given.stat().st_mode) == 0o755


def test_writers_with_one_process_id_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers that share a volume: two have partial files at a time."""
    cache, kept, replace_file = TargetCache(tmp_path), kept_of(0), Path.replace
    partials: list[Path] = []

    def meet(partial: Path, file: Path) -> Path:
        partials.append(partial)
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
        if len(partials) == 1:
            TargetCache(tmp_path).keep(NAMES[0], kept)
        return replace_file(partial, file)

    monkeypatch.setattr(Path, "replace", meet)
    cache.keep(NAMES[0], kept)
    assert len(set(partials)) == 2
    assert_same_kept(cache.find(NAMES[0]), kept)
    assert len(list(tmp_path.iterdir())) == 1


def work_on(folder: Path, clearing: int) -> None:
    """Do what a client does with a cache, and clear it now and then."""
    cache = TargetCache(folder)
    for turn in range(400):
        name, kept = f"{turn % 7}" * 64, kept_of(turn % 7)
        found = cache.find(name)
        if found is not None:
            assert_same_kept(found, kept)
        cache.keep(name, kept)
        if turn % 50 == clearing:
            clear_cache(folder)


def test_two_clients_on_one_cache_see_whole_targets_or_none(tmp_path: Path) -> None:
    """Two processes at once, while the folder is cleared again and again."""
    children = []
    for clearing in (10, 35):
        child = os.fork()
        if child == 0:
            try:
                work_on(tmp_path, clearing)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ends == [0, 0]
    assert not list(tmp_path.glob(".*"))
    assert len(list(tmp_path.iterdir())) == 7


def test_a_cache_gives_what_the_second_one_has_and_keeps_in_both(
    tmp_path: Path,
) -> None:
    """Either may then be cleared."""
    second = TargetCache(tmp_path / "second")
    cache = TargetCache(tmp_path / "cache", second)
    second.keep(NAMES[0], kept_of(0))
    assert_same_kept(cache.find(NAMES[0]), kept_of(0))
    for name, kept in zip(NAMES[:2], (kept_of(0), kept_of(1)), strict=True):
        cache.keep(name, kept)
        assert_same_kept(TargetCache(cache.path).find(name), kept)
        assert_same_kept(second.find(name), kept)
    clear_cache(second.path)
    assert_same_kept(cache.find(NAMES[1]), kept_of(1))
    assert second.find(NAMES[1]) is None


def test_a_shared_cache_that_cannot_be_written_costs_time_and_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run keeps what it needs; a warning names the folder."""
    (tmp_path / "file").write_text("no folder")
    shared = TargetCache(tmp_path / "file" / "cache")
    cache = TargetCache(tmp_path / "run", shared)
    cache.keep(NAMES[0], kept_of(0))
    assert_same_kept(cache.find(NAMES[0]), kept_of(0))
    assert f"cannot be kept in {shared.path}" in caplog.text
    assert cache.find(NAMES[1]) is None


def test_the_environment_names_the_folder_that_runs_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unset or empty, there is none."""
    monkeypatch.setenv("COLLABEDIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("COLLABEDIT_CACHE", "")
    assert cache_folder() is None
    monkeypatch.delenv("COLLABEDIT_CACHE")
    assert cache_folder() is None


def test_the_cache_is_described_and_cleared_and_nothing_else_is(
    tmp_path: Path,
) -> None:
    """A folder may be named by mistake."""
    folder = tmp_path / "cache"
    assert describe_cache(folder) == (0, 0, None, None)
    assert clear_cache(folder) == 0
    cache = TargetCache(folder)
    for seed, name in enumerate(NAMES[:2]):
        cache.keep(name, kept_of(seed))
    files = sorted(folder.iterdir())
    others = [folder / "model.safetensors", folder / "notes.txt"]
    for other in others:
        other.write_text("mine")
    count, total, oldest, newest = describe_cache(folder)
    assert (count, total) == (2, sum(file.stat().st_size for file in files))
    times = [file.stat().st_mtime for file in files]
    assert (oldest, newest) == (min(times), max(times))
    assert clear_cache(folder) == 2
    assert sorted(folder.iterdir()) == sorted(others)
    assert cache.find(NAMES[0]) is None


def test_what_a_killed_process_left_goes_when_the_cache_is_cleared(
    tmp_path: Path,
) -> None:
    """A partial file may hold as much of a target as a complete one."""
    child = os.fork()
    if child == 0:
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        TargetCache(tmp_path).keep(NAMES[0], kept_of(0))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (partial,) = tmp_path.iterdir()
    assert partial.stat().st_size > 0
    other = tmp_path / f".{NAMES[0]}.txt.abc.partial"
    other.write_text("mine")
    assert describe_cache(tmp_path)[:2] == (0, 0)
    assert clear_cache(tmp_path) == 0
    assert list(tmp_path.iterdir()) == [other]


def test_who_is_writing_while_the_cache_is_cleared_writes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache may be cleared at any time, and costs no run its round."""
    cache, replace_file = TargetCache(tmp_path), Path.replace
    cleared: list[int] = []

    def clear(partial: Path, file: Path) -> Path:
        if not cleared:
            cleared.append(clear_cache(tmp_path))
            assert list(tmp_path.iterdir()) == []
        return replace_file(partial, file)

    monkeypatch.setattr(Path, "replace", clear)
    cache.keep(NAMES[0], kept_of(0))
    assert_same_kept(cache.find(NAMES[0]), kept_of(0))


@pytest.fixture(scope="module")
def model() -> EditableModel:
    """Make one tiny model."""
    return tiny_model()


def job_with(**changes: object) -> Job:
    """Change the job's hyperparameters."""
    parameters = PARAMETERS.model_copy(update=changes)
    plan = PLAN.model_copy(update={"parameters": parameters})
    return JOB.model_copy(update={"plan": plan})


def test_targets_are_filed_under_all_that_their_bits_depend_on(
    model: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests, their company and order, plan, model, updates, batches and machine."""
    first, *others = REQUESTS
    changed = [
        [first.model_copy(update={field: value}), *others]
        for field, value in (
            ("prompt", "{} speaks"),
            ("subject", "Hal"),
            ("target_new", "viola"),
            ("target_space", "never"),
        )
    ]
    lists = [REQUESTS, REQUESTS[::-1], REQUESTS[:2], *changed]
    names = [name_targets(each, JOB, model, 128) for each in lists]
    fewer = PLAN.model_copy(update={"templates": TEMPLATES[:2]})
    jobs = [
        job_with(v_lr=0.1),
        job_with(layers=(1,)),
        JOB.model_copy(update={"plan": fewer}),
        JOB.model_copy(update={"identity": ModelIdentity(weights="v", tokenizer="t")}),
        JOB.model_copy(update={"identity": ModelIdentity(weights="w", tokenizer="u")}),
        JOB.model_copy(update={"before": "other updates"}),
    ]
    names += [name_targets(REQUESTS, job, model, 128) for job in jobs]
    names.append(name_targets(REQUESTS, JOB, model, 64))
    names.append(name_targets(REQUESTS, JOB, tiny_model(dtype=torch.float32), 128))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    names.append(name_targets(REQUESTS, JOB, model, 128))
    monkeypatch.setattr(torch, "__version__", "another")
    names.append(name_targets(REQUESTS, JOB, model, 128))
    monkeypatch.setattr(clients.target_cache, "version", lambda _: "another")
    names.append(name_targets(REQUESTS, JOB, model, 128))
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
    model: EditableModel, update: dict[str, object]
) -> None:
    """A target does not depend on how statistics are read, sent and merged."""
    other = JOB.model_copy(update=update)
    assert other != JOB
    same = name_targets(REQUESTS, JOB, model, 128)
    assert name_targets(REQUESTS, other, model, 128) == same


def test_prompts_for_evaluation_alone_do_not_change_a_target(
    model: EditableModel,
) -> None:
    """Nor does the number of the case."""
    fields: dict[str, object] = {
        "case_id": 1,
        "target_true": None,
        "paraphrase_prompts": (),
        "neighborhood_prompts": ("Hal lives in",),
    }
    others = [
        EditRequest.model_validate({**each.model_dump(), **fields}) for each in REQUESTS
    ]
    same = name_targets(REQUESTS, JOB, model, 128)
    assert name_targets(others, JOB, model, 128) == same


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a target nor a part of one."""

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "replace", fail)
    cache = TargetCache(tmp_path)
    with pytest.raises(OSError, match="full"):
        cache.keep(NAMES[0], replace(kept_of(0)))
    assert list(tmp_path.iterdir()) == []
