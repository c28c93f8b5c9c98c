"""Laws of norm-anchor scaling: values of one length, or none."""

import pytest
import torch
from torch import Tensor, nn

from editing.memit.norm_anchor import anchored_shift, read_values, reference_norm
from editing.memit.targets import compute_targets, measure_value_norms
from editing.models.editable import EditableModel
from editing.requests.edit_request import EditRequest
from tests.laws import ALGEBRA, assert_same
from tests.naive import naive_target
from tests.tiny import PARAMETERS, TEMPLATES, said_by, tiny_model, tiny_requests

REQUESTS = tiny_requests(4)
LAST = PARAMETERS.layers[-1]


def value_of(model: EditableModel, request: EditRequest) -> Tensor:
    """Run one bare prompt, up to the subject, and look at what the module writes."""
    text = request.prompt[: request.prompt.index("{}")] + request.subject
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        seen.append(output)

    hook = model.down_projection(LAST).register_forward_hook(keep)
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    model.model(input_ids=ids)
    hook.remove()
    return seen[0][0, -1]


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gemma3_text, uncapped"])
def test_targets_are_those_of_the_definition(family: str) -> None:
    """``(h − v) + c v*/‖v*‖``, or ``h`` where ``v*`` is longer than twice ``c``."""
    model = tiny_model(family)
    lengths = measure_value_norms(model, REQUESTS, TEMPLATES, PARAMETERS)
    anchor = float(lengths.max() * lengths.min()) ** 0.5 / 2
    parameters = PARAMETERS.model_copy(update={"norm_anchor": anchor})
    ours = compute_targets(model, REQUESTS, TEMPLATES, parameters)
    written = []
    for request, mine in zip(REQUESTS, ours.states, strict=True):
        found = naive_target(model, request, TEMPLATES, PARAMETERS)
        value, hidden = value_of(model, request), found.target - found.shift
        wanted = value + found.shift
        written.append(bool(wanted.norm() <= 2 * anchor))
        scaled = hidden - value + anchor * wanted / wanted.norm()
        assert_same(mine, scaled if written[-1] else hidden, 1e-6)
    assert set(written) == {True, False}


def test_values_are_what_the_module_writes() -> None:
    """Request by request, whatever else is read."""
    model = tiny_model()
    for mine, request in zip(read_values(model, REQUESTS, LAST), REQUESTS, strict=True):
        assert_same(mine, value_of(model, request))


def test_lengths_are_of_values_before_they_are_brought_to_one() -> None:
    """So that a file with a ``c`` of its own can be measured again."""
    model = tiny_model()
    free = measure_value_norms(model, REQUESTS, TEMPLATES, PARAMETERS)
    anchored = PARAMETERS.model_copy(update={"norm_anchor": 0.5})
    again = measure_value_norms(model, REQUESTS, TEMPLATES, anchored)
    assert torch.equal(free, again)


def test_a_request_that_is_fulfilled_keeps_its_state() -> None:
    """It asks for nothing, so that its value is not brought to another length."""
    model = tiny_model()
    model.model.get_parameter("transformer.ln_f.weight").mul_(50.0)
    plain = REQUESTS[0].model_copy(update={"prompt": "the mother of {}"})
    said = said_by(model, plain.rewrite_prompt, 1)
    known = plain.model_copy(update={"target_new": said})
    easy = {"kl_factor": 0.0, "v_weight_decay": 0.0, "norm_anchor": 200.0}
    parameters = PARAMETERS.model_copy(update=easy)
    ours = compute_targets(model, [known, REQUESTS[1]], ["{}"], parameters)
    assert not ours.shift[0].any()
    assert ours.shift[1].any()


def test_what_is_written_has_the_length() -> None:
    """Longer and shorter values alike."""
    generator = torch.Generator().manual_seed(0)
    values, shift = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    ours = anchored_shift(shift, values, 4.0)
    lengths = (values + ours).norm(dim=1)
    assert_same(lengths, torch.full_like(lengths, 4.0), ALGEBRA)


@pytest.mark.parametrize(("count", "dropped"), [(1, 0), (19, 0), (20, 1), (59, 2)])
def test_the_reference_is_the_mean_without_the_largest(
    count: int, dropped: int
) -> None:
    """One in twenty, rounded down, in any order."""
    norms = torch.arange(count, 0, -1).float()
    kept = sorted(norms.tolist())[: count - dropped]
    assert reference_norm(norms) == pytest.approx(sum(kept) / len(kept), rel=ALGEBRA)
