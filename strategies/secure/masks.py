"""Masks: key streams that cancel in the sum, or that the server takes off it.

Each two parties share a stream, which the one with the lower number adds and the other
subtracts; and each party adds a stream of its own (double masking, Bonawitz et al.
2017). A stream is AES-256 in counter mode under a key used for nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from strategies.secure.fixed_point import Words
from strategies.secure.keys import context, derive

BLOCK = 16
CHUNK = 1 << 16
"""Numbers of a stream that are made at a time, so that they stay in the cache."""

_ZEROS = bytes(8 * CHUNK)


@dataclass(frozen=True, slots=True)
class SumName:
    """Which sum it is, for which masks and keys are drawn that are good for no other.

    Attributes:
        run: Drawn by the server for a start of a run; a resumed run has another.
        label: The part of the run.
        round: Counted from 1; 0 is before any edit.
        attempt: Counts how often the round was begun.
        sum: Which of the round's sums.
    """

    run: str
    label: str
    round: int
    attempt: int
    sum: str

    @property
    def parts(self) -> tuple[str | int, ...]:
        """The fields, for a context."""
        return self.run, self.label, self.round, self.attempt, self.sum


@dataclass(frozen=True, slots=True)
class Masking:
    """The masks of one sum over a list of members.

    Attributes:
        name: The sum.
        members: The numbers of the parties whose masks cancel, ascending.
        asked: Digest of what is asked of all of them alike.
    """

    name: SumName
    members: tuple[int, ...]
    asked: str = ""

    def add_own(self, words: Words, vector: str, party: int, seed: bytes) -> None:
        """Add a party's own stream in place."""
        add_stream(words, self._key("own", vector, seed, party), subtract=False)

    def remove_own(self, words: Words, vector: str, party: int, seed: bytes) -> None:
        """Take a party's own stream off in place."""
        add_stream(words, self._key("own", vector, seed, party), subtract=True)

    def add_pairs(
        self, words: Words, vector: str, party: int, secrets: Mapping[int, bytes]
    ) -> None:
        """Add the streams that a party shares, by the other's number, in place."""
        for other, secret in secrets.items():
            low, high = sorted((party, other))
            key = self._key("pair", vector, secret, low, high)
            add_stream(words, key, subtract=party == high)

    def _key(self, purpose: str, vector: str, secret: bytes, *whose: int) -> bytes:
        parts = (*self.name.parts, vector, whose, self.members, self.asked)
        return derive(secret, context(purpose, *parts))


def add_stream(words: Words, key: bytes, *, subtract: bool) -> None:
    """Add a key stream to numbers in place, or subtract it, modulo 2⁶⁴."""
    encryptor = Cipher(AES(key), CTR(bytes(BLOCK))).encryptor()
    buffer = bytearray(8 * min(CHUNK, len(words)) + BLOCK)
    for start in range(0, len(words), CHUNK):
        part = words[start : start + CHUNK]
        encryptor.update_into(memoryview(_ZEROS)[: 8 * len(part)], buffer)
        stream = np.frombuffer(buffer, "<u8", len(part))
        if subtract:
            part -= stream
        else:
            part += stream
