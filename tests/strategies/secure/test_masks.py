"""Masks cancel, and are AES in counter mode."""

from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from strategies.secure.masks import CHUNK, Masking, SumName, add_stream

KEY = bytes(range(32))
NAME = SumName("5a" * 16, "run", 1, 0, "targets")


@pytest.mark.parametrize("size", [0, 1, 7, CHUNK, CHUNK + 3])
def test_a_stream_is_aes_in_counter_mode_however_it_is_cut(size: int) -> None:
    """From a counter of 0; subtracting it gives the numbers back."""
    whole = Cipher(AES(KEY), CTR(bytes(16))).encryptor().update(bytes(8 * size))
    words = np.zeros(size, np.uint64)
    add_stream(words, KEY, subtract=False)
    assert words.tobytes() == whole
    add_stream(words, KEY, subtract=True)
    assert not words.any()


def test_pairwise_masks_cancel_over_all_members_and_no_fewer() -> None:
    """Each stream is added once and subtracted once."""
    members = (0, 3, 7, 8)
    masking = Masking(NAME, members)
    secrets = {pair: bytes(pair) * 16 for pair in combinations(members, 2)}
    parts = []
    for party in members:
        words = np.arange(5, dtype=np.uint64)
        own = {
            low + high - party: secret
            for (low, high), secret in secrets.items()
            if party in {low, high}
        }
        masking.add_pairs(words, "1.keys", party, own)
        parts.append(words)
    assert (np.sum(parts, axis=0, dtype=np.uint64) == 4 * np.arange(5)).all()
    assert np.sum(parts[:-1], axis=0, dtype=np.uint64).max() > 2**50


def test_a_mask_is_of_one_sum_one_vector_and_one_list_of_members() -> None:
    """All parts of the name count, and so does whose mask it is."""
    fields: tuple[str | int, ...] = ("6b" * 16, "other", 2, 1, "metrics")
    names = [NAME]
    for place, value in enumerate(fields):
        parts = list(NAME.parts)
        parts[place] = value
        names.append(SumName(*parts))  # type: ignore[arg-type]
    maskings = [Masking(name, (0, 1, 2)) for name in names]
    maskings.append(Masking(NAME, (0, 1, 3)))
    maskings.append(Masking(NAME, (0, 1, 2), "another question"))
    seen = set()
    for masking in maskings:
        for vector in ("a", "b"):
            for party in (0, 1):
                words = np.zeros(1, np.uint64)
                masking.add_own(words, vector, party, KEY)
                seen.add(int(words[0]))
                masking.remove_own(words, vector, party, KEY)
                assert words[0] == 0
                masking.add_pairs(words, vector, party, {2: KEY})
                seen.add(int(words[0]))
    assert len(seen) == len(maskings) * 2 * 2 * 2
