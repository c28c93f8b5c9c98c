"""Count a covariance from the command line, and show what covariance files hold."""

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
"""What the name of a file ends in while its count goes on."""

ENDING = ".safetensors"
"""What the name of a file of ours ends in."""

PUBLISHED = "float32, as published"


@dataclass(frozen=True, slots=True)
class CountOptions:
    """What is counted, and how; the command line's options.

    Attributes:
        model: A model folder, a hub id or ``embedded``.
        layers: Whose keys are averaged; None takes those that the hyperparameters edit.
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


def parse_layers(layers: str) -> tuple[int, ...]:
    """Read ``3,4,5``.

    Raises:
        InputError: If it is no list of distinct numbers.
    """
    try:
        numbers = tuple(int(each) for each in layers.split(","))
    except ValueError:
        numbers = ()
    if not numbers or len(set(numbers)) != len(numbers):
        raise InputError(f"--layers {layers!r}: wanted distinct numbers such as 3,4,5")
    return numbers


def count_to_file(options: CountOptions, output: Path) -> Covariance:
    """Count a covariance, or go on where an earlier call was stopped, and write it.

    What cannot be written, or an option that does not fit the model, is an
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
    with counting(console, tokens, resumed) as tell:
        counted = estimate_covariance(
            model,
            text,
            layers,
            tokens,
            options.batch_tokens,
            Checkpoints(state, options.checkpoint_every),
            tell,
        )
    covariance = with_ridge(counted)
    save_covariance(covariance, output)
    state.unlink(missing_ok=True)
    show(covariance, output)
    return covariance


def check_output(output: Path) -> None:
    """Refuse in a moment what could not be written after hours.

    Raises:
        InputError: If the file exists, is not named as one of ours, or its place
            admits no new file.
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


def edited_layers(options: CountOptions, place: str) -> tuple[int, ...]:
    """Those that a run with these hyperparameters edits.

    Raises:
        InputError: If nothing says which.
    """
    config = EditingConfig(hyperparameters=options.hyperparameters)
    try:
        return choose_hyperparameters(config, place).parameters.layers
    except InputError as error:
        raise InputError(f"Name the layers with --layers 3,4,5: {error}") from None


@contextmanager
def counting(
    console: Console, total: int, resumed: Path | None = None
) -> Iterator[Callable[[int], None]]:
    """Lend a function that is told of tokens, and shows speed and the time left.

    Args:
        console: Where to show it.
        total: Tokens that there will be, at most.
        resumed: The state that is gone on with, if there is one. It is named with the
            first tokens: before them, the count may still refuse it.
    """
    pace = Pace(total)
    shown = _bar if console.is_terminal else _lines
    with shown(console, pace) as show_tokens:

        def tell(done: int) -> None:
            if resumed is not None and not pace.has_begun:
                said = f"Going on with {resumed}"
                console.print(said, markup=False, soft_wrap=True)
            show_tokens(done)

        yield tell
    ended = ", where the text ends" if pace.done < total else ""
    said = f"{pace.done} tokens{ended}, {pace.speed:.0f} tokens/s"
    console.print(said, highlight=False)


class Pace:
    """How fast tokens are counted, and how long the rest will take.

    The first batch is left out: with it come the tokens of an earlier call.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now."""
        self.total, self.done = total, 0
        self._clock, self._began, self._printed = clock, clock(), clock()
        self._first: int | None = None

    def note(self, done: int) -> None:
        """Take down how many tokens are done."""
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
        """The time that the rest will take, as far as can be said."""
        if not self.speed:
            return "unknown"
        minutes, seconds = divmod(round((self.total - self.done) / self.speed), 60)
        return f"{minutes}:{seconds:02d}"

    def take_turn(self) -> bool:
        """Whether it is time for another line; the next one is due later."""
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

        def tell(done: int) -> None:
            pace.note(done)
            progress.update(task, completed=done, speed=pace.speed, left=pace.left)

        yield tell


@contextmanager
def _lines(console: Console, pace: Pace) -> Iterator[Callable[[int], None]]:
    def tell(done: int) -> None:
        pace.note(done)
        if pace.take_turn():
            said = f"{done}/{pace.total} tokens, {pace.speed:.0f} tokens/s"
            now = time.strftime("%H:%M:%S")
            console.print(f"{now}  {said}, {pace.left} left", highlight=False)

    yield tell


def show_files(files: Sequence[Path]) -> None:
    """Print what each covariance file holds."""
    for file in files:
        if file.suffix != ".npz":
            show(load_covariance([file], ()), file)
            continue
        moment, tokens = load_published(file)
        named = parse_name(file)
        made = Provenance("", file.name, tokens, products=PUBLISHED)
        name = named.module if named else "not named"
        show(Covariance({0: moment}, made), file, {0: name})


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

    A rank that the file does not name is found.
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
    """What is to be said of text, model, precision and ridge."""
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
