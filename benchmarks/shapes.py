"""What each step costs on models of real shapes, with random weights.

    python -m benchmarks.shapes [--shape gpt2] [--device cpu] [--count 32] [--threads 2]

Weights, tokenizer and requests are made on the spot, so nothing has to be downloaded:
time and memory depend on the shape alone. Targets are raced against MEMIT's loop as
`tests/naive.py` writes it, and must be equal to it; evaluation against the published
way of one padded batch a case (`benchmarks/evaluation.py`).
"""

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    PreTrainedTokenizerFast,
)

from benchmarks.evaluation import Costs, evaluate_case, judge_together
from editing.covariance.covariance import compute_covariance
from editing.hyperparameters.config import Hyperparameters
from editing.memit.keys import extract_keys
from editing.memit.residuals import read_hidden
from editing.memit.targets import compute_targets
from editing.models.loading import EditableModel, make_editable
from editing.requests.edit_request import EditRequest
from tests.naive import naive_target

Result = TypeVar("Result")

CONTEXT_WORDS = 10
"""Length of a context template; MEMIT samples 10 tokens."""

CONTEXTS = 5
REPEATS = 2
PADDING = "<pad>"
RELATIONS = (
    ("The mother tongue of {} is", "What {} speaks at home is"),
    ("{} works in the city of", "Every day {} goes to work in"),
    ("{} plays the instrument called the", "On stage {} is heard on the"),
    ("The headquarters of {} is located in", "{} is governed from an office in"),
    ("{}, who was born a citizen of", "The passport of {} is that of"),
    ("The occupation of {} is that of a", "By profession {} has always been a"),
)
SYLLABLES = "ba ce di fo gu ha ki lo mu na pe qui ra so tu va we xi yo zu".split()  # noqa: SIM905


@dataclass(frozen=True)
class Shape:
    """A published model's shape, and the blocks that are edited of it.

    Attributes:
        config: Of the model.
        layers: Edited blocks: the published ones, or the same part of the depth.
        steps: Loss evaluations of a target.
    """

    config: GPT2Config | GPTJConfig
    layers: tuple[int, ...]
    steps: int


SHAPES = {
    "gpt2": Shape(GPT2Config(), (2, 3, 4), 20),
    "gpt2-xl": Shape(
        GPT2Config(n_embd=1600, n_layer=48, n_head=25), (13, 14, 15, 16, 17), 20
    ),
    "gpt-j": Shape(GPTJConfig(), (3, 4, 5, 6, 7, 8), 25),
}


@dataclass(frozen=True)
class Case:
    """What is measured on."""

    model: EditableModel
    requests: list[EditRequest]
    templates: tuple[str, ...]
    parameters: Hyperparameters


@dataclass(frozen=True)
class Line:
    """One measured figure.

    Attributes:
        what: Of which step, and its unit.
        ours: Figure.
        other: What the other side takes; None if there is none.
        ratio: How many times better ours is.
        memory: Bytes at the peak of our step.
    """

    what: str
    ours: float
    other: float | None
    ratio: float | None
    memory: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each step and write one table."""
    options = _read_options(arguments)
    torch.set_num_threads(options.threads)
    case = make_case(options)
    lines = [
        measure_targets(case, options.naive_count),
        *measure_readings(case),
        measure_covariance(case),
        measure_evaluation(case),
    ]
    sys.stdout.write(_report(options, lines))
    return 0


def make_case(options: argparse.Namespace) -> Case:
    """Make a model with random weights, and requests in CounterFact's manner."""
    shape = SHAPES[options.shape]
    draw = random.Random(options.seed)
    requests = [_make_request(number, draw) for number in range(options.count)]
    contexts = [
        " ".join(_word(draw) for _ in range(CONTEXT_WORDS)) for _ in range(CONTEXTS)
    ]
    torch.manual_seed(options.seed)
    kind = GPTJForCausalLM if options.shape == "gpt-j" else GPT2LMHeadModel
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, options.dtype))
    try:
        with torch.device(options.device):
            model = kind(shape.config)  # type: ignore[arg-type]
    finally:
        torch.set_default_dtype(before)
    return Case(
        make_editable(model, _train_tokenizer(requests, contexts)),
        requests,
        ("{}", *(f"{text}. {{}}" for text in contexts)),
        Hyperparameters(layers=shape.layers, v_num_grad_steps=shape.steps),
    )


def _make_request(number: int, draw: random.Random) -> EditRequest:
    relation = draw.randrange(len(RELATIONS))
    prompt, paraphrase = RELATIONS[relation]
    subject = _name(draw)
    return EditRequest(
        case_id=number,
        prompt=prompt,
        subject=subject,
        target_new=_word(draw).title(),
        target_true=_word(draw).title(),
        relation_id=f"P{relation}",
        paraphrase_prompts=tuple(
            f"{_text(draw, 8)}. {paraphrase.format(subject)}" for _ in range(2)
        ),
        neighborhood_prompts=tuple(
            RELATIONS[relation][each % 2].format(_name(draw)) for each in range(10)
        ),
    )


def _word(draw: random.Random) -> str:
    return "".join(draw.choices(SYLLABLES, k=draw.randint(2, 3)))


def _text(draw: random.Random, words: int) -> str:
    return " ".join(_word(draw) for _ in range(words))


def _name(draw: random.Random) -> str:
    return _text(draw, draw.randint(2, 3)).title()


def _train_tokenizer(
    requests: Sequence[EditRequest], contexts: Sequence[str]
) -> PreTrainedTokenizerFast:
    """Train byte-pair merges on the prompts; a text has about GPT-2's token count."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[PADDING],
        show_progress=False,
    )
    texts = [
        text
        for request in requests
        for text in (
            request.rewrite_prompt,
            f" {request.target_new}",
            *request.paraphrase_prompts,
            *request.neighborhood_prompts,
        )
    ]
    tokenizer.train_from_iterator([*texts, *contexts], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PADDING)


def measure_targets(case: Case, naive_count: int) -> Line:
    """Seconds a target, all in a batch against one at a time."""
    some = case.requests[:naive_count]
    _ours(case, some[:1])
    found, seconds, memory = _best(case, lambda: _ours(case, case.requests), repeats=1)
    naive, slow, _ = _best(case, lambda: _naively(case, some), repeats=1)
    gap = (found[: len(some)] - naive).norm(dim=1) / naive.norm(dim=1)
    if float(gap.max()) > _tolerance(case):
        raise SystemExit(f"targets differ by {gap.max().item():.1e}")
    ours, theirs = seconds / len(case.requests), slow / len(some)
    return Line("targets, seconds each", ours, theirs, theirs / ours, memory)


def _tolerance(case: Case) -> float:
    return 1e-3 if case.model.dtype in {torch.float32, torch.float64} else 0.2


def _ours(case: Case, requests: Sequence[EditRequest]) -> Tensor:
    return compute_targets(case.model, requests, case.templates, case.parameters).states


def _naively(case: Case, requests: Sequence[EditRequest]) -> Tensor:
    found = [
        naive_target(case.model, request, case.templates, case.parameters).target
        for request in requests
    ]
    return torch.stack(found)


def measure_readings(case: Case) -> list[Line]:
    """Seconds a request for the keys of all edited layers, and for its residual."""
    layers = case.parameters.layers
    count = len(case.requests)
    _, keys, most = _best(
        case,
        lambda: extract_keys(case.model, case.requests, case.templates, layers),
    )
    _, hidden, also = _best(
        case, lambda: read_hidden(case.model, case.requests, layers[-1])
    )
    return [
        Line(
            "keys of all edited layers, seconds a request",
            keys / count,
            *2 * (None,),
            most,
        ),
        Line("residual, seconds a request", hidden / count, *2 * (None,), also),
    ]


def measure_covariance(case: Case) -> Line:
    """Tokens a second, all edited layers in one pass."""
    draw = random.Random(0)
    texts = [_text(draw, 200) for _ in range(16)]
    found, seconds, memory = _best(
        case,
        lambda: compute_covariance(case.model, texts, case.parameters.layers, "made"),
    )
    speed = found.provenance.tokens / seconds
    return Line("covariance, tokens a second", speed, None, None, memory)


def measure_evaluation(case: Case) -> Line:
    """Prompts a second, together against one padded batch a case."""
    ours, fast, memory = _best(case, lambda: judge_together(case.model, case.requests))
    some = case.requests[: max(1, len(case.requests) // 4)]
    theirs, slow, _ = _best(
        case, lambda: [evaluate_case(case.model, each) for each in some]
    )
    if _largest_gap(ours[: len(some)], theirs) > _tolerance(case):
        raise SystemExit("evaluation differs")
    prompts = sum(_prompts_of(request) for request in case.requests)
    others = sum(_prompts_of(request) for request in some)
    speed, other = prompts / fast, others / slow
    return Line("evaluation, prompts a second", speed, other, speed / other, memory)


def _largest_gap(ours: Costs, theirs: Costs) -> float:
    pairs = zip(ours, theirs, strict=True)
    gaps = [abs(torch.tensor(mine) - torch.tensor(other)) for mine, other in pairs]
    return max(float(gap.max()) for gap in gaps)


def _prompts_of(request: EditRequest) -> int:
    return 1 + len(request.paraphrase_prompts) + len(request.neighborhood_prompts)


def _best(
    case: Case, work: Callable[[], Result], repeats: int = REPEATS
) -> tuple[Result, float, int]:
    """What the work gives, the shortest of its times, and the most memory."""
    seconds = []
    _forget_peak(case.model.device)
    for _ in range(repeats):
        started = time.perf_counter()
        result = work()
        if case.model.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return result, min(seconds), _peak(case.model.device)


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _report(options: argparse.Namespace, lines: Sequence[Line]) -> str:
    rows = "".join(
        f"| {each.what} | {each.ours:.4g} "
        f"| {'' if each.other is None else f'{each.other:.4g}'} "
        f"| {'' if each.ratio is None else f'{each.ratio:.1f}'} "
        f"| {each.memory / 1e9:.2f} |\n"
        for each in lines
    )
    place = (
        torch.cuda.get_device_name()
        if options.device.startswith("cuda")
        else f"CPU, {options.threads} threads"
    )
    return (
        f"{options.shape} shape, {options.dtype}, {place}, {options.count} requests\n\n"
        "| what | ours | other | ratio | peak GB |\n|---|---|---|---|---|\n" + rows
    )


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="gpt2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--count", type=int, default=32, help="requests")
    parser.add_argument(
        "--naive-count", type=int, default=4, help="of them, for the naive loop"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads for torch")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
