"""Laws of the entropy of generated text."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.evaluation.fluency import (
    WordSplitter,
    entropy,
    find_splitter,
    ngram_entropy,
    weigh_entropies,
)

SPLITTER = WordSplitter("spaces", str.split)
WORDS = st.lists(st.sampled_from("abc"), max_size=12)


def test_entropy_is_its_definition() -> None:
    """By hand: bigrams ab ba ab ba ab, trigrams aba bab aba bab."""
    words = ["a", "b", "a", "b", "a", "b"]
    bigrams = -(3 / 5 * math.log2(3 / 5) + 2 / 5 * math.log2(2 / 5))
    assert entropy(words, 2) == pytest.approx(bigrams)
    assert entropy(words, 3) == pytest.approx(1)
    mean = (bigrams * 2 / 3 + 1 * 4 / 3) / 2
    assert weigh_entropies(words) == pytest.approx(mean)
    assert ngram_entropy(["a b a b a b", "a a a a"], SPLITTER) == pytest.approx(
        mean / 2
    )


@given(words=WORDS, size=st.integers(1, 4))
def test_entropy_lies_between_repetition_and_variety(
    words: list[str], size: int
) -> None:
    """0 if all n-grams are one, or none; at most that of equal shares."""
    grams = {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}
    found = entropy(words, size)
    assert 0 <= found <= math.log2(max(len(grams), 1)) + 1e-9
    assert (found == 0) == (len(grams) < 2)


@given(words=WORDS.filter(lambda words: len(words) > 1))
def test_entropy_is_that_of_the_counts(words: list[str]) -> None:
    """Of pairs, counted one by one."""
    counts = Counter(pairwise(words)).values()
    total = sum(counts)
    expected = sum(-n / total * math.log2(n / total) for n in counts)
    assert entropy(words, 2) == pytest.approx(expected, abs=1e-12)


def test_the_splitter_cuts_as_nltk_does_and_says_what_it_is() -> None:
    """Full stops, commas and contractions are words of their own."""
    splitter = find_splitter()
    words = splitter.split("It isn't far, she said. They went.")
    wanted = ["It", "is", "n't", "far", ",", "she", "said", ".", "They", "went", "."]
    assert words == wanted
    assert "nltk" in splitter.name
