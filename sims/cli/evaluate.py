"""The command that evaluates a model, before and after a delta."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sims.cli.options import Precision, TargetSpace, TargetSpaceOption

app = typer.Typer()


@app.command("evaluate")
def evaluate_delta(
    model: Annotated[str, typer.Option(help="A model folder, hub id or `embedded`.")],
    requests: Annotated[
        Path,
        typer.Option(
            metavar="SOURCE",
            help="Edit requests: a file, a saved folder, `hub:NAME` or `embedded`.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="The JSON file to write.")],
    delta: Annotated[
        Path | None,
        typer.Option(
            help="A delta.safetensors, or a run's folder; the unedited model if left "
            "out."
        ),
    ] = None,
    dtype: Annotated[
        Precision, typer.Option(help="The precision of the weights.")
    ] = Precision.FLOAT32,
    device: Annotated[str, typer.Option(help="Where to compute.")] = "cpu",
    hyperparameters: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PRESET",
            help="What names the model's modules, if its family is not known.",
        ),
    ] = None,
    target_space: TargetSpaceOption = TargetSpace.AUTO,
    zsre_target: Annotated[
        Literal["answers", "alt"],
        typer.Option(help="Which field of zsRE's records was edited in."),
    ] = "answers",
    attribute_prompts: Annotated[
        bool,
        typer.Option(
            "--attribute-prompts",
            help="Evaluate prompts of other subjects whose true object is the new one.",
        ),
    ] = False,
    generation: Annotated[
        bool,
        typer.Option(
            "--generation",
            help="Write texts after generation prompts: n-gram entropy.",
        ),
    ] = False,
    greedy: Annotated[
        bool,
        typer.Option(
            "--greedy",
            help="Write the likeliest token; else one of the 5 best is drawn.",
        ),
    ] = False,
    max_tokens: Annotated[
        int, typer.Option(min=2, help="How long a text gets, its prompt counted.")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Draws the texts.")] = 0,
    snippets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="ROME's attribute_snippets.json: write texts, and measure reference "
            "score and essence perplexity too.",
        ),
    ] = None,
    idf: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="ROME's idf.npy.", show_default="beside the snippets"
        ),
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            "--tfidf-vocab",
            metavar="FILE",
            help="ROME's tfidf_vocab.json.",
            show_default="beside the snippets",
        ),
    ] = None,
    perplexity: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text whose perplexity is measured."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="TASK,…",
            help="Tasks of lm-evaluation-harness, the extra `harness`.",
        ),
    ] = None,
    task_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder with tasks of your own, as YAML."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Documents of each task to run on.")
    ] = None,
) -> None:
    """Evaluate a model, with or without a delta, by the prompts of edit requests.

    A text's perplexity and named tasks are measured before and after the delta.
    """
    from sims.results.evaluation import evaluate_with_delta
    from sims.results.measures import Measures

    measures = Measures(
        attribute_prompts=attribute_prompts,
        generation=generation,
        greedy=greedy,
        max_tokens=max_tokens,
        seed=seed,
        snippets=snippets,
        idf=idf,
        vocabulary=vocabulary,
        text=perplexity,
        tasks=tasks or "",
        task_dir=task_dir,
        limit=limit,
    )
    evaluate_with_delta(
        model,
        requests,
        output,
        delta,
        dtype=dtype.value,
        device=device,
        hyperparameters=hyperparameters,
        zsre_target=zsre_target,
        target_space=target_space.value,
        measures=measures,
    )
