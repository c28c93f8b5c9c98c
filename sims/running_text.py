"""Shows how prompts and their targets are joined and tokenized."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from editing.base.foreign_text import show_foreign
from editing.models.loading import load_tokenizer
from editing.models.token_rows import tokenize_request
from editing.requests.edit_request import EditRequest
from editing.sources.embedded import resolve_model
from sims.console import hush_libraries

REQUESTS_SHOWN = 5
"""Requests of a source that are shown."""

PROMPT_TOKENS_SHOWN = 6
"""Tokens that are shown of a prompt, counted from its end."""


def show_tokens(
    requests: Sequence[EditRequest], model_path: str, console: Console
) -> None:
    """Print the tokens of the first requests' prompts and targets.

    Args:
        requests: What is edited.
        model_path: A model's folder, hub name or ``embedded``; no weights are read.
        console: Where to print.

    A tokenizer that cannot be read is an `InputError`.
    """
    hush_libraries()
    tokenizer, _ = load_tokenizer(resolve_model(model_path))
    table = Table(box=SIMPLE_HEAD, title="Prompts and targets in tokens")
    for head in ("Case", "Prompt ends with", "Target"):
        table.add_column(head, overflow="fold")
    for request in requests[:REQUESTS_SHOWN]:
        row, target = tokenize_request(tokenizer, request)
        shown = row.ids[-PROMPT_TOKENS_SHOWN:]
        more = "... " if len(row.ids) > len(shown) else ""
        table.add_row(
            str(request.case_id),
            Text(more + write_tokens(tokenizer, shown)),
            Text(write_tokens(tokenizer, target)),
        )
    console.print(table)


def write_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Write each token in quotation marks, its spaces included.

    Tokens that are no whole letter alone are written together.
    """
    written, held = [], list[int]()
    for number in ids:
        held.append(number)
        text = str(tokenizer.decode(held))
        if "\ufffd" not in text:
            written.append(show_foreign(_with_space(tokenizer, held, text)))
            held = []
    if held:
        written.append(show_foreign(str(tokenizer.decode(held))))
    return " ".join(written)


def _with_space(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str
) -> str:
    """Put back the space that SentencePiece tokenizers drop from a text's beginning."""
    text = text.replace("\u2581", " ")
    piece = tokenizer.convert_ids_to_tokens(ids[0])
    spaced = isinstance(piece, str) and piece.startswith(("\u2581", "\u0120"))
    return f" {text}" if spaced and not text.startswith(" ") else text
