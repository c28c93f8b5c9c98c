"""Tokens are shown as they are edited, with their spaces."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from editing.models.token_rows import tokenize_rewrite
from editing.requests.edit_request import EditRequest, read_requests
from sims.cli.main import main
from sims.running_text import REQUESTS_SHOWN, show_tokens, write_tokens
from tests.editing.models.test_token_rows import (
    byte_tokenizer,
    merged_tokenizer,
    spaced_tokenizer,
)


def test_tokens_are_written_with_their_spaces() -> None:
    """A letter of several tokens is written once, and SentencePiece's space is one."""
    tokenizer = merged_tokenizer("中文", " Acme")
    ids = tokenizer("是中文 Acme")["input_ids"]
    assert write_tokens(tokenizer, ids) == "'是' '中文' ' Acme'"
    assert write_tokens(byte_tokenizer(), ids[:2]).startswith("'")
    spaced = spaced_tokenizer()
    ids = spaced("Ada works")["input_ids"]
    assert write_tokens(spaced, ids) == "' Ada' ' works'"


def test_the_first_requests_of_a_source_are_shown(tmp_path: Path) -> None:
    """The prompt's last tokens and all of the target's, by the setting."""
    requests = [
        EditRequest(
            case_id=number,
            prompt="{} works for",
            subject="Ada",
            target_new="Acme",
            target_space="never" if number else "auto",
        )
        for number in range(REQUESTS_SHOWN + 1)
    ]
    file = tmp_path / "shown.txt"
    with file.open("w") as stream:
        show_tokens(requests, "embedded", Console(file=stream, width=200))
    lines = [line for line in file.read_text().splitlines() if "'" in line]
    assert len(lines) == REQUESTS_SHOWN
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3", "4"]
    assert "' A" in lines[0]
    assert "' A" not in lines[1].rpartition("  ")[2]


def test_split_shows_tokens_and_writes_the_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A party that takes the file joins its targets in the same way."""
    source, output = tmp_path / "source.json", tmp_path / "parties"
    record = {"prompt": "{} works for", "subject": "Ada", "target_new": "Acme"}
    source.write_text(json.dumps([record]), "utf-8")
    command = ["split", "--requests", str(source), "--parties", "1"]
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--output", str(output), "--target-space", "never"])
    assert "in tokens" not in capsys.readouterr().out
    (request,) = read_requests(output / "party_0.jsonl")
    assert request.target_space == "never"
    more = ["--output", str(tmp_path / "more"), "--show-tokens", "embedded"]
    with pytest.raises(SystemExit, match="0"):
        main([*command, *more])
    assert "in tokens" in capsys.readouterr().out
    row, ids = tokenize_rewrite(byte_tokenizer(), "{}", request)
    assert byte_tokenizer().decode([*row.ids, *ids]) == "Ada works forAcme"
