"""What the command line checks before it starts anything."""

from pathlib import Path

import pytest

from editing.architectures import ModelError, load_tokenizer
from editing.embedded import locate_embedded
from editing.errors import InputError
from editing.requests import EditRequest
from sims.jobs import check_fit


def ask(subject: str) -> EditRequest:
    """A request about somebody."""
    return EditRequest(
        case_id=3, prompt="{} works for", subject=subject, target_new="Somebody"
    )


def test_a_subject_longer_than_the_context_is_named_before_the_run() -> None:
    """And one that just fits is not."""
    model = str(locate_embedded())
    _, longest = load_tokenizer(model)
    check_fit(model, [ask("Anna")])
    with pytest.raises(InputError, match=f"Request 3: .* model reads {longest}"):
        check_fit(model, [ask("Anna"), ask("Anna " * longest)])


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """The message says what was wanted."""
    with pytest.raises(ModelError, match="no causal language model can be loaded"):
        check_fit(str(tmp_path), [ask("Anna")])
