"""Estimate a covariance from the command line, and describe covariance files."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from editing.base.errors import InputError
from editing.covariance.covariance import (
    Covariance,
    Provenance,
    default_tokens,
    estimate_covariance,
    with_ridge,
)
from editing.covariance.estimation import BATCH_TOKENS, CHECKPOINT_TOKENS, Checkpoints
from editing.covariance.files import load_covariance, load_published, save_covariance
from editing.covariance.published import parse_name
from editing.covariance.rank import RIDGE, numerical_rank
from editing.covariance.texts import open_text
from editing.hyperparameters.choice import choose_hyperparameters, load_named
from editing.hyperparameters.config import EditingConfig
from editing.sources.embedded import resolve_model
from sims.console import LINE_SECONDS, hush_libraries, open_console

UNFINISHED = ".unfinished"
"""Suffix of a file's name while its estimation is under way."""

ENDING = ".safetensors"
"""Suffix of the files that are written here."""

PUBLISHED = "float32, as published"


@dataclass(frozen=True, slots=True)
class EstimationOptions:
    """What is estimated, and how; the command line's options.

    Attributes:
        model: A model folder, a hub id or ``embedded``.
        layers: The layers of the keys; None takes those that the hyperparameters edit.
        text: See `open_text`.
        tokens: Tokens to average over, at most; None takes `default_tokens`.
        dtype: The precision of the weights.
        device: Where to compute.
        batch_tokens: Padded tokens of a batch, at most.
        checkpoint_every: Tokens between two states that are written.
        seed: Draws the text that the model writes.
        hyperparameters: A file or preset, where the model's folder has none.
    """

    model: str
    layers: tuple[int, ...] | None
    text: str
    tokens: int | None = None
    dtype: str = "float32"
    device: str = "cpu"
    batch_tokens: int = BATCH_TOKENS
    checkpoint_every: int = CHECKPOINT_TOKENS
    seed: int = 0
    hyperparameters: str | None = None


def estimate_to_file(options: EstimationOptions, output: Path) -> Covariance:
    """Estimate a covariance, or resume an earlier call that was stopped, and write it.

    An output that cannot be written, or an option that does not fit the model, is an
    `InputError`.
    """
    check_output(output)
    hush_libraries()
    place = resolve_model(options.model)
    model = load_named(place, options.dtype, options.device, options.hyperparameters)
    layers = options.layers or edited_layers(options, place)
    model.check_layers(layers)
    tokens = options.tokens or default_tokens(model, layers)
    text = open_text(options.text, model, place, options.seed, "--text")
    state = output.with_name(output.name + UNFINISHED)
    console = open_console(stderr=True)
    resumed = state if state.exists() else None
    with following_tokens(console, tokens, resumed) as note_tokens:
        estimated = estimate_covariance(
            model,
            text,
            layers,
            tokens,
            options.batch_tokens,
            Checkpoints(state, options.checkpoint_every),
            note_tokens,
        )
    covariance = with_ridge(estimated)
    save_covariance(covariance, output)
    state.unlink(missing_ok=True)
    show(covariance, output)
    return covariance


def check_output(output: Path) -> None:
    """Validate in a second that the file can be written hours later.

    Raises:
        InputError: If the file exists, has another suffix, or cannot be made there.
    """
    if output.suffix != ENDING:
        raise InputError(
            f"--output {output}: the file is written as safetensors; wanted a name "
            f"that ends in {ENDING}, such as {output.stem or 'covariance'}{ENDING}"
        )
    try:
        if output.exists():
            raise InputError(
                f"{output} exists and is never overwritten; name another file"
            )
        place = next(each for each in output.absolute().parents if each.exists())
        probe = place / f".{output.name}.{os.getpid()}.partial"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"--output {output}: no file can be written there ({error.strerror}); "
            "name another place"
        ) from None


def edited_layers(options: EstimationOptions, place: str) -> tuple[int, ...]:
    """The layers that a run with these hyperparameters edits.

    Raises:
        InputError: If no hyperparameters are found.
    """
    config = EditingConfig(hyperparameters=options.hyperparameters)
    try:
        return choose_hyperparameters(config, place).parameters.layers
    except InputError as error:
        raise InputError(f"Name the layers with --layers 3,4,5: {error}") from None


@contextmanager
def following_tokens(
    console: Console, total: int, resumed: Path | None = None
) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the tokens done, and shows speed and the time left.

    Args:
        console: Where to show it.
        total: The number of tokens, at most.
        resumed: The state that is resumed, if any. It is named with the first tokens:
            before them, the estimation may still refuse it.
    """
    pace = Pace(total)
    shown = _bar if console.is_terminal else _lines
    with shown(console, pace) as show_tokens:

        def note_tokens(done: int) -> None:
            if resumed is not None and not pace.has_begun:
                console.print(f"Resuming {resumed}", markup=False, soft_wrap=True)
            show_tokens(done)

        yield note_tokens
    ended = ", where the text ends" if pace.done < total else ""
    line = f"{pace.done} tokens{ended}, {pace.speed:.0f} tokens/s"
    console.print(line, highlight=False)


class Pace:
    """The speed in tokens a second, and the time that the rest will take.

    The first batch is left out: it includes the tokens of an earlier call.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now."""
        self.total, self.done = total, 0
        self._clock, self._began, self._printed = clock, clock(), clock()
        self._first: int | None = None

    def note(self, done: int) -> None:
        """Record how many tokens are done."""
        if self._first is None:
            self._first, self._began = done, self._clock()
        self.done = done

    @property
    def has_begun(self) -> bool:
        """Whether a batch is done."""
        return self._first is not None

    @property
    def speed(self) -> float:
        """Tokens a second since the first batch; 0 before the second."""
        seconds = self._clock() - self._began
        return (self.done - (self._first or 0)) / seconds if seconds > 0 else 0.0

    @property
    def left(self) -> str:
        """The time that the rest will take, if it is known."""
        if not self.speed:
            return "unknown"
        minutes, seconds = divmod(round((self.total - self.done) / self.speed), 60)
        return f"{minutes}:{seconds:02d}"

    def take_turn(self) -> bool:
        """Return whether another line is due, and wait again if it is."""
        if self._clock() - self._printed < LINE_SECONDS:
            return False
        self._printed = self._clock()
        return True


@contextmanager
def _bar(console: Console, pace: Pace) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.0f} tokens/s, {task.fields[left]} left"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("tokens", total=pace.total, speed=0.0, left="unknown")

        def note_tokens(done: int) -> None:
            pace.note(done)
            progress.update(task, completed=done, speed=pace.speed, left=pace.left)

        yield note_tokens


@contextmanager
def _lines(console: Console, pace: Pace) -> Iterator[Callable[[int], None]]:
    def note_tokens(done: int) -> None:
        pace.note(done)
        if pace.take_turn():
            line = f"{done}/{pace.total} tokens, {pace.speed:.0f} tokens/s"
            now = time.strftime("%H:%M:%S")
            console.print(f"{now}  {line}, {pace.left} left", highlight=False)

    yield note_tokens


def show_files(files: Sequence[Path]) -> None:
    """Print the contents of each covariance file."""
    for file in files:
        if file.suffix != ".npz":
            show(load_covariance([file], ()), file)
            continue
        published, named = load_published(file), parse_name(file)
        made = Provenance("", file.name, published.tokens, products=PUBLISHED)
        name = named.module if named else "not named"
        show(Covariance({0: published.mean()}, made), file, {0: name})


def show(
    covariance: Covariance, file: Path, names: Mapping[int, str] | None = None
) -> None:
    """Print layers, tokens, ranks, ridges, text and model of a covariance."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("layer", "d_in", "tokens / d_in", "rank", "ridge"):
        table.add_column(name, justify="right")
    for row in describe_layers(covariance, names or {}):
        table.add_row(*row)
    console = open_console()
    title = f"{file}: the mean of k kᵀ over {covariance.provenance.tokens} tokens"
    console.print(title, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    for line in describe_origin(covariance.provenance):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def describe_layers(
    covariance: Covariance, names: Mapping[int, str]
) -> list[tuple[str, ...]]:
    """One row a layer: its name, width, tokens a direction, rank and ridge.

    A rank that the file does not name is computed.
    """
    made = covariance.provenance
    rows: list[tuple[str, ...]] = []
    for layer, moment in sorted(covariance.moments.items()):
        width = len(moment)
        rank = made.ranks.get(layer)
        if rank is None:
            rank = numerical_rank(moment, made.tokens, single=made.is_single)
        ridge = made.ridges.get(layer, 0.0)
        rows.append(
            (
                names.get(layer, str(layer)),
                str(width),
                f"{made.tokens / width:.1f}",
                describe_rank(rank, width, made.tokens),
                f"{ridge:.3g}" if ridge else "none",
            )
        )
    return rows


def describe_rank(rank: int, width: int, tokens: int) -> str:
    """The rank, and why it is not full: too few tokens, or directions never used."""
    if rank == width:
        return "full"
    return f"{rank}, {width - rank} {'short' if tokens < width else 'never used'}"


def describe_origin(made: Provenance) -> list[str]:
    """Describe text, model, precision and ridge, a line each."""
    digest = f", SHA-256 {made.digest[:12]}…" if made.digest else ""
    precision = f", in {made.dtype}" if made.dtype else ""
    lines = [
        f"Text: {made.dataset}{digest}",
        f"Model: {made.fingerprint or 'not named'}{precision}",
    ]
    if made.products:
        lines.append(f"Products: {made.products}")
    if any(made.ridges.values()):
        lines.append(
            f"Ridge: {RIDGE:g} of the mean eigenvalue (trace / d_in) where the rank is "
            "not full: with fewer tokens than d_in on the whole diagonal, else on the "
            "directions that no token used."
        )
    return lines
