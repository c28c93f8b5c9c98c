"""The command that evaluates a model, before and after a delta."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from sims.cli.options import (
    Precision,
    TargetSpace,
    TargetSpaceOption,
    check_new_file,
    takes,
)

app = typer.Typer()

MEASURES = (
    "attribute_prompts",
    "generation",
    "greedy",
    "max_tokens",
    "seed",
    "snippets",
    "idf",
    "vocabulary",
    "answers",
    "answer_tokens",
    "examples",
    "task_dir",
    "limit",
)
"""The options that `Measures` has under the same names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """The options of `evaluate`."""

    model: Annotated[str, typer.Option(help="A model folder, hub id or `embedded`.")]
    requests: Annotated[
        Path,
        typer.Option(
            metavar="SOURCE",
            help="Edit requests: a file, a saved folder, `hub:NAME` or `embedded`.",
        ),
    ]
    output: Annotated[Path, typer.Option(help="The JSON file to write.")]
    delta: Annotated[
        Path | None,
        typer.Option(
            help="A delta.safetensors, or a run's folder; the unedited model if left "
            "out."
        ),
    ] = None
    dtype: Annotated[Precision, typer.Option(help="The precision of the weights.")] = (
        Precision.FLOAT32
    )
    device: Annotated[str, typer.Option(help="Where to compute.")] = "cpu"
    hyperparameters: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PRESET",
            help="Names of the model's modules, if its family is not known.",
        ),
    ] = None
    target_space: TargetSpaceOption = TargetSpace.AUTO
    zsre_target: Annotated[
        Literal["answers", "alt"],
        typer.Option(help="The field of zsRE's records that holds the edited target."),
    ] = "answers"
    attribute_prompts: Annotated[
        bool,
        typer.Option(
            "--attribute-prompts",
            help="Evaluate prompts of other subjects whose true object is the new one.",
        ),
    ] = False
    answers: Annotated[
        bool,
        typer.Option(
            "--answers/--no-answers",
            help="Generate answers to the requests' prompts, greedily.",
        ),
    ] = True
    answer_tokens: Annotated[
        int, typer.Option(min=1, help="The most tokens of a generated answer.")
    ] = 32
    examples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Answered questions; MQuAKE's questions are asked after them.",
        ),
    ] = None
    generation: Annotated[
        bool,
        typer.Option(
            "--generation",
            help="Generate texts from the generation prompts: n-gram entropy.",
        ),
    ] = False
    greedy: Annotated[
        bool,
        typer.Option(
            "--greedy",
            help="Generate the likeliest token; by default one of the 5 best is "
            "sampled.",
        ),
    ] = False
    max_tokens: Annotated[
        int, typer.Option(min=2, help="Tokens of a text, with its prompt.")
    ] = 100
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampled texts.")] = 0
    snippets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="ROME's attribute_snippets.json: generate texts, and measure "
            "reference score and essence perplexity too.",
        ),
    ] = None
    idf: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="ROME's idf.npy.", show_default="next to the snippets"
        ),
    ] = None
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            "--tfidf-vocab",
            metavar="FILE",
            help="ROME's tfidf_vocab.json.",
            show_default="next to the snippets",
        ),
    ] = None
    perplexity: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text whose perplexity is measured."),
    ] = None
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,…",
            help="Tasks of lm-evaluation-harness, the extra `harness`.",
        ),
    ] = None
    task_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder with tasks of your own, as YAML."),
    ] = None
    limit: Annotated[
        int | None, typer.Option(min=1, help="Documents of each task to run on.")
    ] = None

    @property
    def measures(self) -> dict[str, object]:
        """The options that choose what is measured, as `Measures` names them."""
        given = {name: getattr(self, name) for name in MEASURES}
        return {**given, "text": self.perplexity, "tasks": self.tasks or ""}


@app.command("evaluate")
@takes(EvaluationOptions)
def evaluate_delta(options: EvaluationOptions) -> None:
    """Evaluate a model, with or without a delta, on the prompts of edit requests.

    A text's perplexity and named tasks are measured before and after the delta.
    """
    from sims.console import announce_loading

    check_new_file(options.output)
    announce_loading()
    from sims.results.evaluation import evaluate_with_delta
    from sims.results.measures import Measures

    evaluate_with_delta(
        options.model,
        options.requests,
        options.output,
        options.delta,
        dtype=options.dtype.value,
        device=options.device,
        hyperparameters=options.hyperparameters,
        zsre_target=options.zsre_target,
        target_space=options.target_space.value,
        measures=Measures.model_validate(options.measures),
    )


@app.command("summarize")
def summarize_results(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS…")],
    runs: Annotated[
        str | None,
        typer.Option(metavar="RUN,…", help="Average these runs only, as run_003 or 3."),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(min=1, help="Average this many cases of each run, by number."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Write the table: .csv, .html, .md, .tex, .txt. Repeatable.",
        ),
    ] = None,
) -> None:
    """Average the cases of runs, ours and those of MEMIT and CollabEdit.

    RESULTS are folders of results or of runs, of studies and papers too. One row for
    each editor or trial: means and standard deviations over its runs or seeds, or over
    the cases of a single one. A run without case files has its report's means.
    """
    from sims.results.summaries import summarize

    summarize(results, runs, first, output or [])
