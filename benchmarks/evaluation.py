"""Seconds per prompt of an evaluation, at equal results, in four ways.

- *case by case*, as ROME's and MEMIT's programs do it: the prompts of one case, each
  with either object, in one padded batch; scores over the vocabulary at every position;
  a log-softmax for each token of an answer.
- *prompt by prompt*: the same, one prompt at a time.
- *whole rows*: all requests together; rows that no other begins with, each whole.
- *together*: this project's; what rows begin with in common is run once.

The model is a GPT-2 of 124 million parameters with random weights, whose results are
as good as any for a comparison; words are its tokens. The prompts are those of a file
of requests, or made up. `--model` takes another one, such as ``embedded`` with its own
requests. Run it with

    python -m benchmarks.evaluation [--model MODEL] [--requests FILE] [--count N]
        [--threads N] [--repeat N] [--device NAME] [--quick]

With `--rounds N`, it edits the embedded model in N rounds instead, evaluates after each
of them and after every tenth, and compares the time of both runs.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from editing.base.errors import InputError
from editing.evaluation.cases import evaluate_requests
from editing.models.loading import EditableModel, load_editable_model, make_editable
from editing.requests.edit_request import EditRequest, read_requests
from editing.sources.embedded import file_in_model, resolve_model
from server.config import read_scenario
from server.report.data import read_report
from sims.runs.in_process import run_in_process
from strategies.scenario import flatten

SAMPLE = (
    Path(__file__).resolve().parents[2] / "shared/data/multi_counterfact_sample.json"
)
SCENARIO = Path("sims/scenarios/default.toml")
TOLERANCE = 1e-3
"""Difference of an NLL that another batch may leave in single precision."""

SHAPE = GPT2Config()
QUICK = GPT2Config(n_layer=2, n_embd=64, n_head=2)


Costs = list[list[tuple[float, float]]]
Way = Callable[[Sequence[EditRequest]], Costs]


@dataclass(frozen=True)
class Timed:
    """What a way found, and what it took.

    Attributes:
        costs: By case and prompt, the NLL of the new and of the true object.
        wall: Seconds by the clock.
        cpu: Seconds of all threads, which other programs lengthen less.
    """

    costs: Costs
    wall: float
    cpu: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Time all three, compare their results, and write one line each."""
    options = _read_options(arguments)
    torch.set_num_threads(options.threads)
    if options.rounds:
        sys.stdout.write(compare_rounds(options.rounds))
        return 0
    try:
        requests = _find_requests(options)[: options.count]
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.model:
        model = load_editable_model(resolve_model(options.model), device=options.device)
    else:
        model = make_model(requests, QUICK if options.quick else SHAPE, options.device)
    plain = model.architecture.model_copy(update={"windows": False})
    without_packs = replace(model, architecture=plain)
    ways: dict[str, Way] = {
        "case by case": lambda asked: [evaluate_case(model, each) for each in asked],
        "prompt by prompt": lambda asked: [judge_singly(model, each) for each in asked],
        "whole rows": lambda asked: judge_together(without_packs, asked),
        "together": lambda asked: judge_together(model, asked),
    }
    found: dict[str, Timed] = {}
    for number in range(options.repeat):
        for name, way in ways.items():
            if number == 0:
                way(requests[:1])
            timed = _time(way, requests, model.device)
            found[name] = min(timed, found.get(name, timed), key=lambda each: each.cpu)
    sys.stdout.write(_report(requests, found, model))
    return 0


def compare_rounds(rounds: int, every: int = 10) -> str:
    """Edit the embedded model in rounds; evaluate after each, then after some."""
    seconds, last = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for step in (1, every):
            output = Path(scratch) / f"every_{step}"
            settings = [
                "parties.count=2",
                "parties.requests-per-round=1",
                f"run.rounds={rounds}",
                f"evaluation.every={step}",
                f'output.directory="{output}"',
            ]
            config = read_scenario(SCENARIO, settings)
            start = time.process_time()
            run_in_process(flatten(config), 2, Path(scratch) / f"private_{step}")
            seconds[step] = time.process_time() - start
            last[step] = read_report(output / "report.json").runs[0].metrics[-1]
    assert last[1] == last[every], "the last round's metrics differ"
    return (
        f"{rounds} rounds of two requests, seconds of all threads: {seconds[1]:.1f} "
        f"evaluated after each, {seconds[every]:.1f} after every {every} and the last "
        f"({seconds[1] / seconds[every]:.2f} times); the last round's metrics are "
        "equal\n"
    )


def prompts_of(request: EditRequest) -> list[str]:
    """All prompts that MEMIT's evaluation reads."""
    return [
        request.rewrite_prompt,
        *request.paraphrase_prompts,
        *request.neighborhood_prompts,
    ]


@torch.no_grad()
def evaluate_case(
    model: EditableModel, request: EditRequest, prompts: Sequence[str] | None = None
) -> list[tuple[float, float]]:
    """Judge a case's prompts with both objects in one padded batch."""
    asked = prompts_of(request) if prompts is None else list(prompts)
    objects = (request.target_new, str(request.target_true))
    cut: Any = model.tokenizer
    sizes = [len(ids) for ids in cut(asked)["input_ids"]]
    answers = [cut(f" {text}")["input_ids"] for text in objects]
    batch = cut(
        [f"{prompt} {text}" for prompt in asked for text in objects],
        padding=True,
        return_tensors="pt",
    ).to(model.device)
    logits = model.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits
    costs = []
    for row in range(len(logits)):
        ids, start = answers[row % 2], sizes[row // 2] - 1
        total = 0.0
        for place, token in enumerate(ids):
            total -= logits[row, start + place].log_softmax(dim=0)[token].item()
        costs.append(total / len(ids))
    return list(zip(costs[::2], costs[1::2], strict=True))


def judge_singly(
    model: EditableModel, request: EditRequest
) -> list[tuple[float, float]]:
    """Judge a case's prompts in a batch each."""
    asked = prompts_of(request)
    return [pair for each in asked for pair in evaluate_case(model, request, [each])]


def judge_together(model: EditableModel, requests: Sequence[EditRequest]) -> Costs:
    """Judge all requests at once, as a run does."""
    found = []
    for case in evaluate_requests(model, requests):
        post: Any = case["post"]
        found.append(
            [
                (each["target_new"], each["target_true"])
                for kind in ("rewrite", "paraphrase", "neighborhood")
                for each in post[f"{kind}_prompts_probs"]
            ]
        )
    return found


def make_model(
    requests: Sequence[EditRequest], shape: GPT2Config, device: str
) -> EditableModel:
    """Make a model with random weights, and a token for every word of the requests."""
    cutter = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    texts = [
        text
        for each in requests
        for text in (*prompts_of(each), each.target_new, str(each.target_true))
    ]
    words = sorted(
        {word for text in texts for word, _ in cutter.pre_tokenize_str(text)}
    )
    vocabulary = {word: number for number, word in enumerate(("[UNK]", *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = cutter
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[UNK]"
    )
    torch.manual_seed(0)
    bare: PreTrainedModel = nn.Module.to(GPT2LMHeadModel(shape), torch.device(device))
    return make_editable(bare, wrapped)


def make_requests(count: int = 40) -> list[EditRequest]:
    """Make up requests of CounterFact's form: one, two and ten prompts."""
    names = [f"Name{number} Family{number % 7}" for number in range(40)]
    relations = ("The mother tongue of {} is", "{}, who works as", "{} is located in")
    before = "An album was recorded for a label of that time but never released . "
    return [
        EditRequest(
            case_id=number,
            prompt=relations[number % 3],
            subject=names[number % 40],
            target_new=f"new{number % 9}" + (" city" if number % 5 == 0 else ""),
            target_true=f"true{number % 9}",
            paraphrase_prompts=tuple(
                words + relations[number % 3].format(names[number % 40])
                for words in (before, before[:30])
            ),
            neighborhood_prompts=tuple(
                relations[number % 3].format(names[(number * 3 + other) % 40])
                for other in range(10)
            ),
        )
        for number in range(count)
    ]


def _find_requests(options: argparse.Namespace) -> list[EditRequest]:
    path: Path | None = options.requests
    if path is None and options.model:
        path = file_in_model(resolve_model(options.model), "requests.json")
    if path is not None:
        return [each for each in read_requests(path) if each.target_true is not None]
    return read_requests(SAMPLE) if SAMPLE.exists() else make_requests()


def _time(way: Way, requests: Sequence[EditRequest], device: torch.device) -> Timed:
    wall, cpu = time.perf_counter(), time.process_time()
    costs = way(requests)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Timed(costs, time.perf_counter() - wall, time.process_time() - cpu)


def _report(
    requests: Sequence[EditRequest], found: dict[str, Timed], model: EditableModel
) -> str:
    ours = found["together"]
    prompts = sum(len(prompts_of(each)) for each in requests)
    lines = [
        f"{prompts} prompts of {len(requests)} requests on {model.device}, "
        f"{torch.get_num_threads()} threads; seconds per prompt:\n"
    ]
    for name, timed in found.items():
        gap = max(
            abs(mine - theirs)
            for case, other in zip(ours.costs, timed.costs, strict=True)
            for pair, pair_ in zip(case, other, strict=True)
            for mine, theirs in zip(pair, pair_, strict=True)
        )
        assert gap <= TOLERANCE, f"{name}: an NLL differs by {gap}"
        lines.append(
            f"  {name:17} {timed.wall / prompts:.5f} by the clock "
            f"({timed.wall / ours.wall:.1f} times ours), {timed.cpu / prompts:.5f} of "
            f"all threads ({timed.cpu / ours.cpu:.1f} times); largest difference of an "
            f"NLL {gap:.1e}\n"
        )
    return "".join(lines)


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=Path, metavar="FILE")
    parser.add_argument("--model", help="a folder, a hub name, or `embedded`")
    parser.add_argument("--rounds", type=int, metavar="N", help="compare two runs")
    parser.add_argument("--repeat", type=int, default=1, help="take the fastest (1)")
    parser.add_argument("--count", type=int, default=20, help="requests (20)")
    parser.add_argument("--threads", type=int, default=2, help="threads (2)")
    parser.add_argument("--device", default="cpu", help="where to compute (cpu)")
    parser.add_argument("--quick", action="store_true", help="a very small model")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
