"""Laws of prompts with their chat template in them: they are known and named."""

import pytest

from editing.models.chat_prompts import (
    begins_doubled,
    has_chat_header,
    warn_of_chat_prompts,
)
from editing.requests.edit_request import EditRequest
from tests.editing.models.test_token_rows import opening_tokenizer
from tests.tiny import TEMPLATES, tiny_tokenizer


@pytest.mark.parametrize(
    "prompt",
    [
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWho is {}?",
        "<|im_start|>user\nWho employs {}?<|im_end|>\n<|im_start|>assistant\n",
        "<s>[INST] Who employs {}? [/INST]",
        "[INST] Who employs {}? [/INST]",
        "<bos><start_of_turn>user\nWho is {}?",
        "Be brief.<|user|>Who is {}?<|assistant|>",
        "### Instruction:\nWho is {}?\n\n### Response:\n",
        "USER: Who is {}? ASSISTANT:",
    ],
)
def test_a_chat_header_is_known(prompt: str) -> None:
    """Whatever the tokenizer knows of it."""
    assert has_chat_header(tiny_tokenizer(), prompt)


@pytest.mark.parametrize(
    "prompt", ["{} works for", "{} wrote <b>", "In [1], {} is", "Q: who is {}? A:"]
)
def test_other_prompts_have_none(prompt: str) -> None:
    """Brackets alone make no header."""
    assert not has_chat_header(tiny_tokenizer(), prompt)
    assert not begins_doubled(opening_tokenizer(), prompt)


def test_what_is_left_out_is_warned_of_by_case(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A first token that would be there twice, and templates before a header."""
    requests = [
        EditRequest(case_id=number, prompt=prompt, subject="Ada", target_new="Acme")
        for number, prompt in enumerate(
            ("{} works for", "<s> {} works for", "[INST] {} works for [/INST]")
        )
    ]
    warn_of_chat_prompts(opening_tokenizer(), requests, TEMPLATES)
    doubled, header = caplog.messages
    assert "1 case(s) (1) begin with <s>" in doubled
    assert "2 case(s) (1, 2) hold a chat header" in header
    caplog.clear()
    warn_of_chat_prompts(opening_tokenizer(), requests[2:], ("{}",))
    warn_of_chat_prompts(tiny_tokenizer(), requests[:1], TEMPLATES)
    assert caplog.messages == []
