"""Fluency: the entropy of generated text.

ROME's generation entropy (Meng et al., arXiv 2202.05262, appendix), as its and MEMIT's
programs compute it: for each text ``⅓·H₂ + ⅔·H₃`` of the entropies, in bits, of its
bigrams and trigrams of words, and then the mean over texts. Text that repeats itself
has little.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SIZES_AND_WEIGHTS = ((2, 1 / 3), (3, 2 / 3))
"""Words of an n-gram and its weight: the mean of ``⅔·H₂`` and ``4/3·H₃``."""


@dataclass(frozen=True, slots=True)
class WordSplitter:
    """Splits texts into words.

    Attributes:
        name: Of the method, for users who compare numbers.
        split: The words of a text, in order.
    """

    name: str
    split: Callable[[str], list[str]]


def find_splitter() -> WordSplitter:
    """Take nltk's ``word_tokenize``; without its data on disk, what comes nearest.

    The data (``punkt_tab``) says which full stops end a sentence; a word that ends one
    loses its full stop. Untrained, Punkt takes common abbreviations for such words too.
    """
    from nltk.data import find  # type: ignore[import-untyped]
    from nltk.tokenize import (  # type: ignore[import-untyped]
        NLTKWordTokenizer,
        PunktSentenceTokenizer,
        word_tokenize,
    )

    try:
        find("tokenizers/punkt_tab/english/")
    except LookupError:
        sentences, words = PunktSentenceTokenizer(), NLTKWordTokenizer()
        return WordSplitter(
            "nltk Treebank words of untrained Punkt sentences",
            lambda text: [
                word
                for sentence in sentences.tokenize(text)
                for word in words.tokenize(sentence)
            ],
        )
    return WordSplitter("nltk word_tokenize", lambda text: list(word_tokenize(text)))


def ngram_entropy(texts: Sequence[str], splitter: WordSplitter) -> float:
    """Mean over texts of the weighted entropy of their n-grams, in bits."""
    found = [weigh_entropies(splitter.split(text)) for text in texts]
    return sum(found) / len(found)


def weigh_entropies(words: Sequence[str]) -> float:
    """``⅓·H₂ + ⅔·H₃`` of a text, in bits."""
    return sum(weight * entropy(words, size) for size, weight in SIZES_AND_WEIGHTS)


def entropy(words: Sequence[str], size: int) -> float:
    """``−Σ p·log₂ p`` over the n-grams of a size; 0 if there is none."""
    runs = zip(*(words[start:] for start in range(size)), strict=False)
    counts = Counter(runs)
    total = counts.total()
    # From +0.0, so that a text without n-grams has a number too.
    return sum((n / total * math.log2(total / n) for n in counts.values()), 0.0)
