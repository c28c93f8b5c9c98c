"""Generated answers: what a model says of an edited fact when nothing helps it.

Under teacher forcing a model is given the right object token by token, and with it what
to say and for how long. Here it is given the prompt alone, as in use (Yang et al., The
Mirage of Model Editing, arXiv 2502.11177). It takes the likeliest token each time,
until it ends the text, a line or a sentence, or has written the most tokens that are
allowed. The answer is compared with the new object as SQuAD compares answers
(Rajpurkar et al., arXiv 1606.05250).
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from editing.evaluation.config import EvaluationConfig
from editing.evaluation.generation import write_columns
from editing.evaluation.metrics import BENCHMARK_ANSWERED
from editing.models.batching import run_batches
from editing.models.loading import EditableModel
from editing.models.token_rows import (
    WORD,
    TokenRow,
    check_length,
    tokenize_texts,
)
from editing.requests.edit_request import EditRequest
from editing.requests.forms.benchmarks import ANSWERED
from editing.requests.joining import split_running_text
from editing.requests.questions import BenchmarkQuestion

ANSWERING = ("rewrite", "paraphrase")
"""The kinds of prompts that are answered with the request's own object."""

LOCALITY = "qaedit_locality"
"""The questions whose answers are compared with those of the unedited model."""

BATCH_SIZE = 64
"""Answers that are written together, to begin with."""

END = re.compile(
    r"\n"
    r"|[!?](?=[\"')\]]*\s)"
    r"|(?<!\b[A-Za-z])(?<!\b[A-Z][a-z])\.(?=[\"')\]]*\s)"
)
"""Where a line or a sentence ends.

A full stop after one letter or after two, as in ``U.S.`` and ``St.``, ends none.
"""

_MARKS = frozenset("\n.!?")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def measure_answers(
    model: EditableModel,
    requests: Sequence[EditRequest],
    config: EvaluationConfig,
    on_batch: Callable[[int], None] | None = None,
    *,
    before: Sequence[Sequence[str]] | None = None,
) -> list[dict[str, object]]:
    """Let the model answer each rewrite prompt and paraphrase, and compare.

    Gives for each request and kind of prompt ``{kind}_prompts_generated``, the answers,
    and ``{kind}_prompts_generated_exact`` and ``{kind}_prompts_generated_contains``,
    whether each is the new object, and whether it has it in it. Questions of benchmarks
    give ``{kind}_questions_generated`` and ``{kind}_questions_acc``, whether each is
    one of the question's own answers.

    Args:
        model: What answers.
        requests: Whose prompts.
        config: The most tokens of an answer.
        on_batch: Called after each batch with the number of prompts answered.
        before: For each request, what the unedited model answers to QAEdit's questions
            of locality, as `answer_locality` returns it: they are compared with that.
    """
    asked = [_prompts_of(each) | _questions_of(each, config) for each in requests]
    answers = iter(_answer(model, requests, asked, config, on_batch))
    found: list[dict[str, object]] = []
    for number, (request, kinds) in enumerate(zip(requests, asked, strict=True)):
        fields: dict[str, object] = {}
        for kind, prompts in kinds.items():
            said = [next(answers) for _ in prompts]
            if kind in ANSWERING:
                fields |= _compare(kind, said, request.target_new)
            else:
                old = before[number] if before is not None else None
                fields |= _compare_own(request, kind, said, old)
        found.append(fields)
    return found


def answer_locality(
    model: EditableModel, requests: Sequence[EditRequest], config: EvaluationConfig
) -> list[list[str]]:
    """For each request, what a model answers to QAEdit's questions of locality."""
    asked = [
        {kind: texts for kind, texts in kinds.items() if kind == LOCALITY}
        for kinds in (_questions_of(each, config) for each in requests)
    ]
    answers = iter(_answer(model, requests, asked, config))
    return [[next(answers) for _ in each.get(LOCALITY, ())] for each in asked]


def _answer(
    model: EditableModel,
    requests: Sequence[EditRequest],
    asked: Sequence[Mapping[str, Sequence[str]]],
    config: EvaluationConfig,
    on_batch: Callable[[int], None] | None = None,
) -> list[str]:
    """Answer all prompts, in the order of requests and kinds.

    One that the model has no positions for is an `InputError`.
    """
    pairs = [
        (request, prompt)
        for request, kinds in zip(requests, asked, strict=True)
        for prompts in kinds.values()
        for prompt in prompts
    ]
    rows = tokenize_texts(
        model.tokenizer,
        # A space at a prompt's end is the answer's, whatever the answer.
        [split_running_text(text, WORD, each.target_space)[0] for each, text in pairs],
    )
    for (request, _), row in zip(pairs, rows, strict=True):
        check_length(model, row, request)
    return generate_answers(model, rows, config.answer_tokens, on_batch)


def _prompts_of(request: EditRequest) -> dict[str, tuple[str, ...]]:
    prompts = ((request.rewrite_prompt,), request.paraphrase_prompts)
    named = zip(ANSWERING, prompts, strict=True)
    return {kind: texts for kind, texts in named if texts}


def _questions_of(
    request: EditRequest, config: EvaluationConfig
) -> dict[str, tuple[str, ...]]:
    own = request.benchmark_questions
    kinds = {
        kind: tuple(write_question(q, config) for q in own if q.kind == kind)
        for kind in ANSWERED
    }
    return {kind: texts for kind, texts in kinds.items() if texts}


def write_question(question: BenchmarkQuestion, config: EvaluationConfig) -> str:
    """Return what the model is given of a question: MQuAKE's stand after examples."""
    if config.examples is None or not question.kind.startswith("mquake"):
        return question.prompt
    return f"{config.examples.strip()}\n{question.prompt}"


def _compare(kind: str, answers: Sequence[str], wanted: str) -> dict[str, object]:
    said, right = [normalize(each) for each in answers], normalize(wanted)
    return {
        f"{kind}_prompts_generated": list(answers),
        f"{kind}_prompts_generated_exact": [each == right for each in said],
        f"{kind}_prompts_generated_contains": [right in each for each in said],
    }


def _compare_own(
    request: EditRequest,
    kind: str,
    answers: Sequence[str],
    before: Sequence[str] | None,
) -> dict[str, object]:
    """Compare answers to a benchmark's questions with what is right, or was said."""
    fields: dict[str, object] = {f"{kind}_questions_generated": list(answers)}
    if kind != LOCALITY:
        asked = [each for each in request.benchmark_questions if each.kind == kind]
        fields[f"{kind}_questions_acc"] = [
            normalize(said) in {normalize(each) for each in question.answers}
            for question, said in zip(asked, answers, strict=True)
        ]
    elif before is not None:
        pairs = zip(before, answers, strict=True)
        fields[f"{kind}_questions_unchanged"] = [old == new for old, new in pairs]
    return fields


def normalize(text: str) -> str:
    """Write a text as SQuAD compares it.

    In lower case, without ASCII punctuation, without articles, with one space between
    words.
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def answer_metrics(post: Mapping[str, object]) -> dict[str, float]:
    """Reduce a case's answers to shares of its prompts.

    ``{kind}_generated_exact`` is the share whose answer is the new object, and
    ``{kind}_generated_contains`` that whose answer has it in it, both normalized.

    MQuAKE's metrics (Zhong et al., arXiv 2305.14795) are whether an edit is recalled,
    whether all steps of a case are (``mquake_instance_acc``), and whether any of its
    questions of several steps is answered (``mquake_multi_hop_acc``). Of QAEdit's
    questions of locality, ``qaedit_locality_unchanged`` is the share that the unedited
    model answers in the same words (WILD, arXiv 2502.11177).
    """
    metrics = _benchmark_metrics(post)
    for kind in ANSWERING:
        for measure in ("exact", "contains"):
            hits = post.get(f"{kind}_prompts_generated_{measure}")
            if hits:
                assert isinstance(hits, list)
                metrics[f"{kind}_generated_{measure}"] = sum(hits) / len(hits)
    return metrics


def _benchmark_metrics(post: Mapping[str, object]) -> dict[str, float]:
    metrics = {}
    for name, reduce in _REDUCTIONS.items():
        hits = post.get("_questions_".join(name.rsplit("_", 1)))
        if hits:
            assert isinstance(hits, list)
            metrics[name] = reduce(hits)
    return metrics


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def _all(hits: Sequence[bool]) -> float:
    return float(all(hits))


def _any(hits: Sequence[bool]) -> float:
    return float(any(hits))


_REDUCTIONS: Mapping[str, Callable[[Sequence[bool]], float]] = dict(
    zip(BENCHMARK_ANSWERED, (_share, _all, _any, _share), strict=True)
)


def generate_answers(
    model: EditableModel,
    prompts: Sequence[TokenRow],
    most_tokens: int,
    on_batch: Callable[[int], None] | None = None,
    batch_size: int = BATCH_SIZE,
) -> list[str]:
    """Continue prompts greedily, each until its answer ends.

    An answer does not depend on the batch that it is written in, but for rounding where
    two tokens are equally likely. Equal prompts are answered once.

    Args:
        model: What answers.
        prompts: In tokens.
        most_tokens: Of an answer; fewer where the model's longest input ends.
        on_batch: Called after each batch with the number of prompts answered.
        batch_size: Prompts that are answered together, to begin with.
    """
    found: dict[tuple[int, ...], str] = {}
    waiting = sorted({row.ids for row in prompts}, key=lambda ids: (len(ids), ids))

    def run(batch: Sequence[tuple[int, ...]]) -> list[str]:
        return _answer_batch(model, batch, most_tokens)

    for batch, answers in run_batches(waiting, batch_size, run):
        found.update(zip(batch, answers, strict=True))
        if on_batch is not None:
            on_batch(sum(row.ids in found for row in prompts))
    return [found[row.ids] for row in prompts]


def _answer_batch(
    model: EditableModel, batch: Sequence[tuple[int, ...]], most_tokens: int
) -> list[str]:
    answers = [_Answer(model, len(ids), most_tokens) for ids in batch]
    longest = max(map(len, batch)) + most_tokens

    def choose(scores: Float[Tensor, "batch vocab"], _: int) -> Int[Tensor, " batch"]:
        return scores.argmax(dim=-1)

    def ends(tokens: Int[Tensor, " batch"], column: int) -> bool:
        for answer, token in zip(answers, tokens.tolist(), strict=True):
            answer.read(token, column)
        return all(answer.done for answer in answers)

    write_columns(model, batch, min(longest, model.longest_input), choose, ends)
    return [answer.text for answer in answers]


class _Answer:
    """One row's answer as it is written."""

    def __init__(self, model: EditableModel, start: int, most_tokens: int) -> None:
        """Begin at the column after the prompt."""
        self._tokenizer = model.tokenizer
        self._stops = find_stops(model)
        self._start, self._most = start, most_tokens
        self._ids: list[int] = []
        self._marked = False
        self.done = False

    def read(self, token: int, column: int) -> None:
        """Take the token of a column, unless it is the prompt's or comes too late."""
        if self.done or column < self._start:
            return
        if token in self._stops:
            self.done = True
            return
        self._ids.append(token)
        self._marked = self._marked or holds_mark(self._tokenizer, token)
        self.done = len(self._ids) == self._most or (
            self._marked and END.search(self._said()) is not None
        )

    @property
    def text(self) -> str:
        """The answer, up to the end of its first line or sentence."""
        said = self._said()
        end = END.search(said)
        return (said[: end.end()] if end else said).strip()

    def _said(self) -> str:
        # White space before an answer ends no line.
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return str(text).lstrip()


def find_stops(model: EditableModel) -> frozenset[int]:
    """Return the tokens that end a text: the tokenizer's, and the model's own."""
    config = model.model.generation_config
    own = config.eos_token_id if config is not None else None
    given = [model.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    return frozenset(token for token in given if isinstance(token, int))


@lru_cache(maxsize=1 << 16)
def holds_mark(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether a token has a character in it at which an answer may end."""
    return not _MARKS.isdisjoint(str(tokenizer.decode([token])))
