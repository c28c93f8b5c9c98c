"""Named tasks of lm-evaluation-harness, run on a model that is loaded already."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from transformers import PreTrainedTokenizerBase

from editing.base.errors import InputError
from editing.evaluation.capability.config import TaskOptions
from editing.models.loading import EditableModel

INSTALL = "pip install 'lm-eval>=0.4.13,<0.5'"


def find_tasks(
    options: TaskOptions, setting: str = "--tasks", place: str = "--task-dir"
) -> Any:  # noqa: ANN401 - the harness is untyped
    """Load the harness and its list of tasks.

    Args:
        options: Which tasks.
        setting: What names them, for errors.
        place: What names their folder.

    Raises:
        InputError: If the harness is not installed, or a task is not known to it.
    """
    try:
        from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]
    except ImportError:
        raise InputError(
            f"{setting} needs lm-evaluation-harness, which is not installed: {INSTALL}"
        ) from None
    if options.folder is not None and not options.folder.is_dir():
        raise InputError(f"{place} {options.folder} is no folder")
    manager = unknown = None
    # The harness takes long to list its own tasks, which one's own need not.
    for defaults in (False, True) if options.folder else (True,):
        folder = str(options.folder) if options.folder else None
        manager = TaskManager(include_path=folder, include_defaults=defaults)
        unknown = [name for name in options.names if not manager.match_tasks([name])]
        if not unknown:
            break
    if unknown:
        raise InputError(
            f"{setting}: {', '.join(unknown)} not known to lm-evaluation-harness; name "
            f"its tasks, or give a folder with YAML files of your own with {place}"
        )
    return manager


def run_tasks(
    model: EditableModel,
    options: TaskOptions,
    manager: Any,  # noqa: ANN401 - the harness is untyped
) -> dict[str, dict[str, float]]:
    """Run tasks and give their numbers, by task and by the harness's metric names.

    Args:
        model: The model, with any updates applied.
        options: Which tasks.
        manager: What `find_tasks` gave for them.
    """
    import lm_eval  # type: ignore[import-untyped]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]

    wrapped = HFLM(
        pretrained=model.model,
        backend="causal",
        tokenizer=_with_end(model),
        max_length=model.longest_input,
        batch_size=options.batch_size,
        device=str(model.device),
    )
    found = lm_eval.simple_evaluate(
        model=wrapped,
        tasks=_expand(options.names, manager),
        task_manager=manager,
        limit=options.limit,
        bootstrap_iters=0,
        log_samples=False,
        # The state of what draws elsewhere stays as it is; nothing here draws from it.
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
    )
    return {name: _numbers(values) for name, values in found["results"].items()}


def _with_end(model: EditableModel) -> PreTrainedTokenizerBase:
    """A tokenizer that names an end of text, which the harness asks for.

    Raises:
        InputError: If neither the tokenizer nor the model's configuration has one.
    """
    if model.tokenizer.eos_token_id is not None:
        return model.tokenizer
    number = getattr(model.model.config, "eos_token_id", None)
    if not isinstance(number, int):
        raise InputError(
            "the harness wants an end-of-text token, and the tokenizer names "
            "none; set `eos_token` in its tokenizer_config.json"
        )
    tokenizer = deepcopy(model.tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(number)
    return tokenizer


def _expand(names: Sequence[str], manager: Any) -> list[str]:  # noqa: ANN401
    expanded: list[str] = manager.match_tasks(list(names))
    return expanded


def _numbers(values: dict[str, object]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
