"""What is validated of a run before anything is started."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from clients.own_requests import find_shares
from editing.base.errors import InputError
from editing.base.validation import shorten
from editing.covariance.texts import check_local_text
from editing.evaluation.answers import write_question
from editing.evaluation.cases import EvaluationPrompt, evaluation_prompts
from editing.evaluation.config import EvaluationConfig
from editing.hyperparameters.choice import choose_hyperparameters
from editing.models.loading import load_tokenizer
from editing.models.token_rows import ContinuationTokenizer, tokenize_request
from editing.requests.edit_request import EditRequest
from editing.requests.forms.benchmarks import ANSWERED, TEACHER_FORCED
from editing.requests.subjects import require_subject
from editing.sources.embedded import resolve_model
from server.app import choose_methods
from server.config import RunConfig
from server.output import refuse_existing
from sims.runs.engines import DEPLOYMENT, check_engine, has_own_nodes
from strategies.partitioning.partitions import check_supply
from strategies.scenario import FEDERATED

MAX_SPECIAL_TOKENS = 8
"""More than any tokenizer puts around a text."""

FIELDS: dict[str, str] = {
    "rewrite": "prompt",
    "locality": "locality",
    "portability": "portability",
    **dict.fromkeys((*TEACHER_FORCED, *ANSWERED), "benchmark_questions"),
}
"""Fields of evaluation prompts that are not called after their kind."""


def settle_privacy(config: RunConfig, engine: str) -> RunConfig:
    """Choose whether the run sums under masks, where the settings leave it open.

    Real parties need not trust the server with their statistics: their sums are masked
    if all merges of the run need sums alone. With too few parties for that the run is
    then refused, and not made without masks in silence. A simulation has everything in
    one place anyway.

    Args:
        config: The run's settings.
        engine: What it runs on.
    """
    if config.privacy.secure_sum is not None:
        return config
    real = engine == DEPLOYMENT or has_own_nodes(engine)
    sums = config.training.steps == 0  # a training is never masked
    secure = real and sums and all(method.sums for method in choose_methods(config))
    chosen = config.privacy.model_copy(update={"secure_sum": secure})
    return config.model_copy(update={"privacy": chosen})


def check_early(config: RunConfig, folder: Path, engine: str = "") -> None:
    """Validate in a second what a run would refuse after a minute."""
    refuse_existing(folder)
    check_engine(config, engine)
    if config.privacy.secure_sum:
        choose_methods(config)  # refuses merges that cannot be summed under masks
    path = config.model.path
    if not has_own_nodes(engine):  # their machines may have the model elsewhere
        path = resolve_model(path)
    if config.editing.hyperparameters is not None:
        choose_hyperparameters(config.editing, path)
    if has_own_nodes(engine):
        return
    if config.prior.covariance == FEDERATED:
        # A party only reports that its text is invalid; here all have the same one.
        check_local_text(config.prior.text, path)
    check_fit(path, find_requests(config), config.evaluation)


def find_requests(config: RunConfig) -> list[EditRequest]:
    """Find all requests that simulated parties may take, then those planted at them.

    Too few, or one without the subject that its editor needs, is an `InputError`.
    """
    shares = find_shares(config.model, config.requests, config.parties)
    check_supply(
        len(shares.pool), config.parties, config.run.rounds, config.requests.source
    )
    planted = [
        request
        for number in range(1, config.run.rounds + 1)
        for own in shares.in_round(number)
        for request in own.contradictions
    ]
    if config.editor.build().answers is None and config.training.steps == 0:
        for request in shares.pool:
            require_subject(request)
    return [*shares.pool, *planted]


def answer() -> None:
    """Do `check_early` for a process without the libraries, and print what it finds.

    The settings, the folder, the engine and the current folder are one JSON array, the
    last argument; of what is printed, the last line is meant.
    """
    settings, folder, engine, place = json.loads(sys.argv[-1])
    os.chdir(place)
    refused = None
    try:
        config = RunConfig.model_validate_json(settings)
        check_early(config, Path(folder), engine)
    except InputError as error:
        refused = str(error)
    sys.stdout.write(f"{json.dumps({'refused': refused})}\n")


def check_fit(
    model_path: str,
    requests: Sequence[EditRequest],
    evaluation: EvaluationConfig | None = None,
) -> None:
    """Validate that requests and the prompts that evaluate them fit the context.

    Only the model's tokenizer is read. Prompts for generation are not checked: one that
    is too long is kept as it is.

    Args:
        model_path: The model's folder or hub name.
        requests: What is edited and evaluated.
        evaluation: What is measured; by default what every request is evaluated by.

    Raises:
        InputError: Naming the first request that is too long, and the field.
    """
    tokenizer, longest = load_tokenizer(model_path)
    joiner, measured = (
        ContinuationTokenizer(tokenizer),
        evaluation or EvaluationConfig(),
    )
    for request in requests:
        row, target = tokenize_request(tokenizer, request)
        length = len(row.ids) + len(target)
        if length > longest:
            raise InputError(
                f"Request {request.case_id}: subject, prompt and target take {length} "
                f"tokens and the model reads {longest}. Shorten the subject or prompt."
            )
        _check_prompts(request, measured, joiner, longest)


def _check_prompts(
    request: EditRequest,
    evaluation: EvaluationConfig,
    joiner: ContinuationTokenizer,
    longest: int,
) -> None:
    """Validate that a request's evaluation prompts fit.

    Raises:
        InputError: Naming the first one that does not.
    """
    answered = [
        EvaluationPrompt(each.kind, write_question(each, evaluation), each.answers)
        for each in request.benchmark_questions
        if each.kind in ANSWERED and evaluation.generated_answers != "never"
    ]
    for each in [*evaluation_prompts(request, evaluation), *answered]:
        for answer in each.answers:
            # Thousands of short texts need no tokens: few bytes cannot be many.
            size = len(f"{each.prompt} {answer}".encode()) + MAX_SPECIAL_TOKENS
            if size <= longest:
                continue
            row, ids = joiner(each.prompt, answer, request.target_space)
            length = len(row.ids) + len(ids)
            if length > longest:
                field = FIELDS.get(each.kind, f"{each.kind}_prompts")
                raise InputError(
                    f"Request {request.case_id}: a prompt of `{field}` and its answer "
                    f"take {length} tokens and the model reads {longest}. Shorten the "
                    f"prompt {shorten(each.prompt)}, or remove it."
                )
