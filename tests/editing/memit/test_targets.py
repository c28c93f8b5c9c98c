"""Laws of targets: a batch gives each request what it would get by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editing.base.errors import InputError
from editing.hyperparameters.config import Hyperparameters
from editing.memit.targets import (
    EARLY_STOP_LOSS,
    DivergedTargetError,
    Targets,
    compute_targets,
)
from editing.models.loading import EditableModel
from editing.models.token_rows import pad_rows
from editing.requests.edit_request import EditRequest
from tests.golden import load_golden
from tests.laws import assert_same, holding, relative_difference
from tests.naive import NaiveTarget, naive_answer_loss, naive_target
from tests.tiny import (
    PARAMETERS,
    TEMPLATES,
    said_by,
    tiny_model,
    tiny_model_of_tuples,
    tiny_requests,
    with_linear_projections,
)

DEFINITION = 1e-8
"""Relative difference to the naive target in float64; steps amplify rounding."""

SINGLE = 1e-4
"""The same in float32, as for published targets."""

PADDING = 1e-12
"""Relative difference that other rows may leave in float64."""

MODEL = tiny_model()


def sharpened(factor: float) -> EditableModel:
    """Scale the last norm, so that the model is surer of what it says."""
    model = tiny_model()
    model.model.get_parameter("transformer.ln_f.weight").mul_(factor)
    return model


SURE = sharpened(4.0)
REQUESTS = tiny_requests()
EASY = PARAMETERS.model_copy(
    update={
        "kl_factor": 0.0,
        "v_weight_decay": 0.001,
        "clamp_norm_factor": 4.0,
        "v_lr": 1.0,
        "v_num_grad_steps": 25,
    }
)
"""Settings under which some requests are finished before the last step."""


def set_to(**changes: object) -> Hyperparameters:
    """Change the tests' hyperparameters."""
    return Hyperparameters.model_validate(PARAMETERS.model_dump() | changes)


def searches(
    requests: list[EditRequest],
    parameters: Hyperparameters = PARAMETERS,
    templates: tuple[str, ...] = TEMPLATES,
    model: EditableModel = MODEL,
) -> list[NaiveTarget]:
    """Find every target by its definition."""
    return [naive_target(model, each, templates, parameters) for each in requests]


def assert_each_same(
    ours: Targets, theirs: list[NaiveTarget], tolerance: float = DEFINITION
) -> None:
    """Compare every request with its own naive target, shift and diagnosis."""
    for index, other in enumerate(theirs):
        assert_same(ours.states[index], other.target, tolerance)
        assert_same(ours.hidden[index], other.target - other.shift, tolerance)
        assert_same(ours.shift[index], other.shift, 100 * tolerance)
        assert ours.stopped[index] == (other.losses[-1] < EARLY_STOP_LOSS)
    assert len(ours) == len(theirs)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"kl_factor": 0.0},
        {"kl_factor": 5.0},
        {"v_weight_decay": 0.0},
        {"v_weight_decay": 30.0},
        {"clamp_norm_factor": 0.1},
        {"v_num_grad_steps": 1},
        {"v_num_grad_steps": 2},
        {"layers": (0,)},
        {"v_loss_layer": 3},
        {"v_loss_layer": 2, "layers": (0, 1)},
    ],
    ids=str,
)
def test_targets_are_those_of_the_definition(change: dict[str, object]) -> None:
    """For each term of the loss, layer, clamp, and block that the loss reads."""
    parameters = set_to(**change)
    ours = compute_targets(MODEL, REQUESTS, TEMPLATES, parameters)
    assert_each_same(ours, searches(REQUESTS, parameters))


@pytest.mark.parametrize(
    "change", [{"layers": (0, 3)}, {"v_loss_layer": 2}, {"v_loss_layer": 0}], ids=str
)
def test_the_loss_is_read_no_earlier_than_the_shift(change: dict[str, object]) -> None:
    """At the shifted block itself, a shift says something of its own place alone."""
    parameters = set_to(**change)
    ours = compute_targets(MODEL, easy_requests(), TEMPLATES[:3], parameters)
    assert_each_same(ours, searches(easy_requests(), parameters, TEMPLATES[:3]))


@pytest.mark.parametrize("templates", [("{}",), TEMPLATES[:2], TEMPLATES[::-1]])
def test_templates_may_be_few_and_in_any_order(templates: tuple[str, ...]) -> None:
    """The bare one need not be first."""
    ours = compute_targets(MODEL, REQUESTS, templates, PARAMETERS)
    assert_each_same(ours, searches(REQUESTS, templates=templates))


@pytest.mark.parametrize("family", ["llama", "tuples", "linear", "square"])
def test_other_models_are_settings(family: str) -> None:
    """Rotary positions, grouped heads, blocks of tuples, weights the other way."""
    makers: dict[str, Callable[[], EditableModel]] = {
        "llama": lambda: tiny_model("llama"),
        "tuples": tiny_model_of_tuples,
        "linear": lambda: with_linear_projections(tiny_model()),
        "square": lambda: tiny_model(inner=16),
    }
    model = makers[family]()
    ours = compute_targets(model, REQUESTS[:3], TEMPLATES, PARAMETERS)
    assert_each_same(ours, searches(REQUESTS[:3], model=model))


def test_attention_in_single_precision_gives_targets_in_single_precision() -> None:
    """As GPT-J's does, whatever the precision of the model."""
    model = tiny_model("gptj")
    ours = compute_targets(model, REQUESTS[:3], TEMPLATES, PARAMETERS)
    assert_each_same(ours, searches(REQUESTS[:3], model=model), SINGLE)


@pytest.mark.training
@settings(max_examples=6)
@given(batch_size=st.integers(1, 7), order=st.permutations(range(6)))
def test_no_batch_and_no_order_changes_a_target(
    batch_size: int, order: list[int]
) -> None:
    """Whatever is in its batch, pads it, or stops before it."""
    easy = [*REQUESTS[:3], *easy_requests()]
    expected = compute_targets(SURE, easy, ["{}"], EASY)
    shuffled = [easy[index] for index in order]
    ours = compute_targets(SURE, shuffled, ["{}"], EASY, batch_size)
    for mine, index in zip(ours.states, order, strict=True):
        assert_same(mine, expected.states[index], DEFINITION)


def test_padding_reaches_no_target() -> None:
    """Next to a much longer prompt, a request's loss has no other digit."""
    few = set_to(v_num_grad_steps=4)
    long = REQUESTS[0].model_copy(
        update={"prompt": "then " * 20 + "{} " + "and " * 20, "case_id": 99}
    )
    alone = compute_targets(MODEL, REQUESTS, ["{}"], few)
    together = compute_targets(MODEL, [long, *REQUESTS], ["{}"], few)
    for mine, other in zip(alone.states, together.states[1:], strict=True):
        assert_same(mine, other, PADDING)


def easy_requests() -> list[EditRequest]:
    """Ask at the subject itself, where a shift can do most, for one token."""
    return [
        EditRequest(case_id=number, prompt=prompt, subject=name, target_new=new)
        for number, (prompt, name, new) in enumerate(
            [
                ("the mother of {}", "Fay", "Dora"),
                ("they found {}", "Hal Stone", "music"),
                ("{}", "Ada Rivers", "old"),
            ]
        )
    ]


def test_each_request_stops_when_its_own_loss_is_small() -> None:
    """At different steps, next to some that never do."""
    requests = [*easy_requests(), *REQUESTS[:2]]
    alone = searches(requests, EASY, ("{}",), SURE)
    steps = [len(each.losses) for each in alone]
    assert len(set(steps)) >= 3, steps
    assert steps[-1] == EASY.v_num_grad_steps
    ours = compute_targets(SURE, requests, ["{}"], EASY)
    assert_each_same(ours, alone)
    for request, each, mine in zip(requests, alone, ours.states, strict=True):
        if len(each.losses) < EASY.v_num_grad_steps:
            assert each.losses[-1] < EARLY_STOP_LOSS
            on = naive_target(SURE, request, ("{}",), EASY, rest=0.0)
            assert relative_difference(mine, on.target) > SINGLE


def test_a_request_that_is_fulfilled_takes_no_step() -> None:
    """The loss is looked at before the first one."""
    model, (first, *_) = sharpened(50.0), easy_requests()
    said = said_by(model, first.rewrite_prompt, 1)
    fulfilled = first.model_copy(update={"target_new": said})
    alone = naive_target(model, fulfilled, ("{}",), EASY)
    assert len(alone.losses) == 1
    assert not alone.shift.any()
    ours = compute_targets(model, [fulfilled, REQUESTS[0]], ["{}"], EASY)
    assert_same(ours.states[0], alone.target, PADDING)
    assert not ours.shift[0].any()
    assert ours.stopped.tolist() == [True, False]


def test_each_request_is_clamped_to_its_own_length() -> None:
    """Some from the first step, some later, some never."""
    mixed = set_to(clamp_norm_factor=0.23, v_num_grad_steps=6, v_lr=0.2)
    alone = searches(REQUESTS, mixed)
    assert len({each.clamps for each in alone}) >= 2, [e.clamps for e in alone]
    ours = compute_targets(MODEL, REQUESTS, TEMPLATES, mixed)
    assert_each_same(ours, alone)
    for each, mine in zip(alone, ours.states, strict=True):
        start = each.target - each.shift
        ratio = ((mine - start).norm() / start.norm()).item()
        assert ratio <= 0.23 * (1 + 1e-9)
        if each.clamps:
            assert ratio == pytest.approx(0.23, rel=0.05)


def test_the_clamp_is_reported_where_it_shortened_the_last_step() -> None:
    """A shift of that length, and of no other request."""
    mixed = set_to(clamp_norm_factor=0.23, v_num_grad_steps=6, v_lr=0.2)
    ours = compute_targets(MODEL, REQUESTS, TEMPLATES, mixed)
    ratios = ours.shift.norm(dim=1) / ours.hidden.norm(dim=1)
    at_clamp = [ratio == pytest.approx(0.23, rel=1e-9) for ratio in ratios.tolist()]
    assert ours.clamped.tolist() == at_clamp
    assert len(set(at_clamp)) == 2
    free = compute_targets(MODEL, REQUESTS, TEMPLATES, set_to(clamp_norm_factor=1e6))
    assert not free.clamped.any()


@pytest.mark.parametrize("steps", [1, 4])
def test_the_reported_loss_is_that_of_the_answer_at_the_target(steps: int) -> None:
    """The mean over prompts, without the KL term and the decay."""
    parameters = set_to(v_num_grad_steps=steps)
    ours = compute_targets(MODEL, REQUESTS, TEMPLATES, parameters)
    for index, request in enumerate(REQUESTS):
        loss = naive_answer_loss(
            MODEL, request, TEMPLATES, parameters, ours.shift[index]
        )
        assert ours.loss[index].item() == pytest.approx(loss, rel=DEFINITION)
    assert torch.equal(ours.probability, (-ours.loss).exp())


def test_answers_of_several_tokens_count_every_token() -> None:
    """The second one is predicted after the first."""
    short = REQUESTS[0].model_copy(update={"target_new": "Acme"})
    long = REQUESTS[0].model_copy(update={"target_new": "Acme Works Group Inc"})
    ours = compute_targets(MODEL, [short, long], TEMPLATES, PARAMETERS)
    assert_each_same(ours, searches([short, long]))
    assert relative_difference(*ours.states) > SINGLE


def test_a_shift_makes_the_answer_likelier() -> None:
    """What all this is for."""
    for search in searches(easy_requests(), EASY, ("{}",), SURE):
        assert search.losses[-1] < search.losses[0] / 10


def test_a_single_precision_model_agrees_to_single_precision() -> None:
    """For every request."""
    model = tiny_model(dtype=torch.float32)
    ours = compute_targets(model, REQUESTS[:3], TEMPLATES, PARAMETERS)
    assert ours.hidden.dtype == ours.shift.dtype == ours.loss.dtype == torch.float32
    for mine, other in zip(
        ours.states, searches(REQUESTS[:3], model=model), strict=True
    ):
        assert_same(mine, other.target, SINGLE)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_golden_model_agrees_with_the_definition(
    golden: Path, batch_size: int
) -> None:
    """In float32, for requests of several relations."""
    case = load_golden(golden)
    some = case.requests[::8]
    ours = compute_targets(
        case.model, some, case.templates, case.parameters, batch_size
    )
    for request, mine in zip(some, ours.states, strict=True):
        other = naive_target(case.model, request, case.templates, case.parameters)
        assert_same(mine, other.target, SINGLE)


def test_a_batch_that_memory_cannot_hold_is_halved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The targets are the same, and progress counts what is done."""
    requests = tiny_requests()
    done: list[int] = []
    whole = compute_targets(MODEL, requests, TEMPLATES, PARAMETERS)
    rows = len(TEMPLATES) + 1
    hold = holding(pad_rows, 2 * rows)
    monkeypatch.setattr("editing.memit.search.shared_prefixes.pad_rows", hold)
    halved = compute_targets(
        MODEL, requests, TEMPLATES, PARAMETERS, on_batch=done.append
    )
    assert_same(halved.states, whole.states, PADDING)
    assert done[-1] == len(requests)
    assert len(done) > 1


@pytest.mark.parametrize("sizes", [(1, 0), (6, 3), (40, 1000)], ids=str)
def test_how_rows_are_grouped_changes_no_target(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int]
) -> None:
    """Row by row, in padded parts, or in parts that are joined as requests stop."""
    requests = [*easy_requests(), *REQUESTS[:2]]
    expected = compute_targets(SURE, requests, ["{}"], EASY)
    monkeypatch.setattr("editing.memit.targets.CPU_PART", sizes)
    ours = compute_targets(SURE, requests, ["{}"], EASY)
    assert_same(ours.states, expected.states, DEFINITION)
    assert torch.equal(ours.stopped, expected.stopped)
    assert len(set(expected.stopped.tolist())) == 2


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj"])
def test_templates_that_are_run_once_change_no_target(
    monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """Nor does a single token that is shared, nor a pass of few tokens."""
    model = tiny_model(family)
    alone = compute_targets(model, REQUESTS[:3], TEMPLATES, PARAMETERS)
    monkeypatch.setattr("editing.memit.search.shared_prefixes.WORTH", 1)
    monkeypatch.setattr("editing.memit.search.shared_prefixes.PASS_TOKENS", 12)
    shared = compute_targets(model, REQUESTS[:3], TEMPLATES, PARAMETERS)
    tolerance = SINGLE if family == "gptj" else DEFINITION
    assert_same(shared.states, alone.states, tolerance)


def test_progress_counts_requests() -> None:
    """After each batch, up to all of them."""
    done: list[int] = []
    compute_targets(MODEL, REQUESTS, ["{}"], set_to(v_num_grad_steps=1), 4, done.append)
    assert done == [4, 6]


def test_the_model_is_left_as_it_was() -> None:
    """No gradient, no hook, no bit."""
    model = tiny_model()
    compute_targets(model, REQUESTS[:1], TEMPLATES, PARAMETERS)
    assert model.fingerprint == tiny_model().fingerprint
    assert all(each.grad is None for each in model.model.parameters())
    assert not any(each._forward_hooks for each in model.model.modules())


def test_a_prompt_that_does_not_fit_is_refused() -> None:
    """By its request."""
    long = REQUESTS[1].model_copy(update={"prompt": "the " * 63 + "{} is"})
    with pytest.raises(InputError, match=r"Request 11: .* the model reads 64"):
        compute_targets(MODEL, [long], TEMPLATES, PARAMETERS)


@pytest.mark.parametrize("steps", [2, 9])
def test_a_loss_that_is_not_a_number_does_not_stop_the_search(steps: int) -> None:
    """At the last step, too; the request is named, and what to try."""
    half = tiny_model(dtype=torch.float16)
    wild = set_to(v_lr=6e5, clamp_norm_factor=1e5, v_num_grad_steps=steps)
    with pytest.raises(DivergedTargetError, match=r"Request 1\d: .*`v_lr`.*float32"):
        compute_targets(half, REQUESTS[1:3], TEMPLATES, wild)
    wide = tiny_model(dtype=torch.float32)
    found = compute_targets(wide, REQUESTS[1:3], TEMPLATES, wild)
    assert found.states.isfinite().all()


def test_the_request_whose_loss_is_no_number_is_named() -> None:
    """By its own number, whatever is in its batch."""
    model = tiny_model("llama")
    (word,) = model.tokenizer("Cleo")["input_ids"]
    model.model.get_parameter("model.embed_tokens.weight")[word] = torch.nan
    with pytest.raises(DivergedTargetError, match=r"Request 12: .*\(1 of 6 are not\)"):
        compute_targets(model, REQUESTS, ["{}"], PARAMETERS)
