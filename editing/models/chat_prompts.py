"""Prompts that have their chat template in them already."""

import logging
import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from editing.requests.edit_request import EditRequest

logger = logging.getLogger(__name__)

_HEADER = re.compile(
    r"<[|\uff5c][^<>\s]+[|\uff5c]>|<s>|<bos>|<start_of_turn>|\[INST\]|<<SYS>>"
    r"|\[\|[^\[\]\s]+\|\]"
    r"|^\s*###? ?(?:System|Instruction|User|Human|Question)"
    r"|^\s*(?:USER|User|Human|SYSTEM|System): .*\b(?:ASSISTANT|Assistant|AI):\s*$",
    re.DOTALL,
)
"""Beginnings of a turn in the chat templates of well known models."""

MAX_CASES_NAMED = 10
"""Cases that a warning lists."""


def has_chat_header(tokenizer: PreTrainedTokenizerBase, prompt: str) -> bool:
    """Whether a prompt holds the header of a chat turn, or a special token.

    Text put before it would stand outside the conversation.
    """
    if _HEADER.search(prompt):
        return True
    if not any(sign in prompt for sign in "<["):
        return False
    return any(
        token in prompt
        for token in tokenizer.all_special_tokens
        if token.startswith(("<", "[")) and len(token) > 2
    )


def begins_doubled(tokenizer: PreTrainedTokenizerBase, prompt: str) -> bool:
    """Whether a prompt begins with special tokens that the tokenizer adds too."""
    first = tokenizer.bos_token
    if not isinstance(first, str) or not prompt.startswith(first):
        return False
    ids: list[int] = tokenizer(prompt)["input_ids"]
    return len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id


def warn_of_chat_prompts(
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[EditRequest],
    templates: Sequence[str] = (),
) -> None:
    """Log what is left out around prompts that have their chat template in them.

    Args:
        tokenizer: The model's.
        requests: Those that are edited or evaluated.
        templates: The context templates, if prompts are put into them.
    """
    doubled = [r for r in requests if begins_doubled(tokenizer, r.prompt)]
    if doubled:
        logger.warning(
            "%s begin with %s, which the tokenizer adds too; it is put there once",
            _name(doubled),
            tokenizer.bos_token,
        )
    if all(template == "{}" for template in templates):
        return
    chats = [r for r in requests if has_chat_header(tokenizer, r.prompt)]
    if chats:
        logger.warning(
            "%s hold a chat header: context templates are not prepended to them",
            _name(chats),
        )


def _name(requests: Sequence[EditRequest]) -> str:
    named = ", ".join(str(each.case_id) for each in requests[:MAX_CASES_NAMED])
    more = ", ..." if len(requests) > MAX_CASES_NAMED else ""
    return f"the prompts of {len(requests)} case(s) ({named}{more})"
