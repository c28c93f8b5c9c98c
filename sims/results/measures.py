"""What a likelihood measures besides the prompts of requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.evaluation.capability.config import TaskOptions
from editing.evaluation.capability.harness import find_tasks, run_tasks
from editing.evaluation.cases import CaseRecord, sum_cases
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.fluency import find_splitter
from editing.evaluation.perplexity import read_surprise
from editing.evaluation.references import References, read_references, read_target_ids
from editing.files.text import read_text
from editing.models.loading import EditableModel


class Measures(Settings):
    """What the command line asks for.

    Attributes:
        attribute_prompts: Whether prompts that have the new object in truth are
            evaluated.
        generation: Whether texts are written; snippets ask for them too.
        greedy: Whether they are written greedily, and not drawn.
        max_tokens: How long a text gets, its prompt counted.
        seed: Draws the texts.
        snippets: ROME's ``attribute_snippets.json``.
        idf: The weights of words; looked for next to the snippets if None.
        vocabulary: The places of these words; likewise.
        answers: Whether the model answers the requests' prompts in its own words.
        answer_tokens: The most tokens of such an answer.
        examples: A text file of answered questions; MQuAKE's are asked after them.
        text: A text file whose perplexity is reported.
        tasks: What lm-evaluation-harness runs, with commas between.
        task_dir: A folder with tasks of one's own.
        limit: Documents of each task.
    """

    attribute_prompts: bool = False
    generation: bool = False
    greedy: bool = False
    max_tokens: int = 100
    seed: int = 0
    snippets: Path | None = None
    idf: Path | None = None
    vocabulary: Path | None = None
    answers: bool = True
    answer_tokens: int = EvaluationConfig().answer_tokens
    examples: Path | None = None
    text: Path | None = None
    tasks: str = ""
    task_dir: Path | None = None
    limit: int | None = None

    @property
    def writes(self) -> bool:
        """Whether texts are written."""
        return self.generation or self.snippets is not None

    @property
    def evaluation(self) -> EvaluationConfig:
        """What requests are evaluated by."""
        drawn = {"top_k": 1} if self.greedy else {}
        return EvaluationConfig(
            attribute_prompts=self.attribute_prompts,
            generation=self.writes,
            max_tokens=self.max_tokens,
            generated_answers="every" if self.answers else "never",
            answer_tokens=self.answer_tokens,
            examples=_read_option("--examples", self.examples),
            **drawn,
        )

    @property
    def task_options(self) -> TaskOptions | None:
        """Which tasks are run; None if there is none."""
        names = tuple(filter(None, map(str.strip, self.tasks.split(","))))
        if not names:
            return None
        return TaskOptions(names=names, folder=self.task_dir, limit=self.limit)

    def check(self) -> None:
        """Validate which options belong together.

        Raises:
            InputError: If an option belongs to a measure that is not requested.
        """
        texts, weights = self.writes, self.snippets is not None
        tasks = self.task_options is not None
        wants = {
            "--greedy": (self.greedy, texts, "--generation or --snippets"),
            "--idf": (self.idf, weights, "--snippets"),
            "--tfidf-vocab": (self.vocabulary, weights, "--snippets"),
            "--examples": (self.examples, self.answers, "--answers"),
            "--task-dir": (self.task_dir, tasks, "--tasks"),
            "--limit": (self.limit, tasks, "--tasks"),
        }
        for option, (given, useful, needed) in wants.items():
            if given and not useful:
                raise InputError(f"{option} needs {needed}; add it, or leave it out")


@dataclass(frozen=True)
class Sources:
    """What the measures read, read before a model is loaded."""

    references: References | None
    target_ids: Mapping[int, str]
    text: str | None
    tasks: Any


def read_sources(measures: Measures, requests: Path | str) -> Sources:
    """Read what is compared with, and find the tasks, before anything takes long.

    A file that cannot be read or does not hold what it should, or a task that cannot be
    found, is an `InputError`.
    """
    measures.check()
    _read_option("--examples", measures.examples)
    text = _read_option("--perplexity", measures.text)
    references, targets = None, {}
    if measures.snippets is not None:
        references = read_references(
            measures.snippets, measures.idf, measures.vocabulary
        )
        targets = read_target_ids(requests)
    tasks = find_tasks(options) if (options := measures.task_options) else None
    return Sources(references, targets, text, tasks)


def _read_option(option: str, path: Path | None) -> str | None:
    """Read the text that an option names, if it is given.

    Raises:
        InputError: If it is no file of UTF-8 text.
    """
    if path is None:
        return None
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{option} {path}: cannot be read as UTF-8 text ({type(error).__name__})"
        ) from None


def measure_further(
    model: EditableModel, measures: Measures, sources: Sources
) -> dict[str, object]:
    """Measure what no request is about: a text's perplexity, and tasks."""
    found: dict[str, object] = {}
    if sources.text is not None:
        found["perplexity"] = read_surprise(model, sources.text).perplexity
    if (options := measures.task_options) is not None:
        found["tasks"] = run_tasks(model, options, sources.tasks)
    return found


def note_texts(measures: Measures, cases: Sequence[CaseRecord]) -> list[str]:
    """State with what entropies were counted, and what was left out."""
    if not measures.writes:
        return []
    counts = sum_cases(cases).counts
    notes = [
        f"n-gram entropy: of {counts.get('ngram_entropy', 0)} of {len(cases)} cases, "
        f"words by {find_splitter().name}"
    ]
    if measures.snippets is None:
        return [
            *notes,
            "reference score and essence perplexity: left out, for they need the "
            "published snippets (--snippets attribute_snippets.json)",
        ]
    return notes + [
        f"{name}: of {counts.get(key, 0)} of {len(cases)} cases; the others' object or "
        "subject has no snippet"
        for name, key in (
            ("reference score", "reference_score"),
            ("essence perplexity", "essence_score"),
        )
    ]
