"""The world's tokenizer: byte-level BPE, small, trained on the world's own text."""

from collections.abc import Iterable
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(
    texts: Iterable[str], vocabulary: int, context: int
) -> PreTrainedTokenizerFast:
    """GPT-2's scheme, with the first word of a text written like any other word.

    A word carries its leading space, also at the start, so that a name has the
    same tokens wherever it stands, and the tokens of ``prompt + " " + answer``
    are those of the prompt and those of ``" " + answer``.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=context,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


class PieceEncoder:
    """Tokens of single pieces, remembered; their concatenation is the whole text's."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Copy the tokenizer, without the space that it puts before a text."""
        self._remembered = cache(self._encode)
        self._plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def __call__(self, written: str) -> tuple[int, ...]:
        """Token ids of `written`, whose leading space, if any, is its own."""
        return self._remembered(written)

    def _encode(self, written: str) -> tuple[int, ...]:
        return tuple(self._plain.encode(written).ids)
