"""Keys of a sum: drawn, authenticated, agreed on, and what is derived from them.

Each use of a secret has a key of its own, from HKDF with SHA-256 (RFC 5869) under a
context that names protocol, purpose, run, round and whatever else it is for. So a key
of one sum opens, masks and authenticates nothing of another.
"""

import hmac
import json
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from editing.base.errors import InputError

PROTOCOL = "collabedit secure sums 1"
KEY_BYTES, NONCE_BYTES = 32, 12

Part = str | int | Sequence["Part"]
"""What a context is made of."""


class ForgedKeyError(InputError):
    """A key or a share that is not of the party that it is said to be of.

    Attributes:
        party: The number of that party; None if it is not known.
    """

    def __init__(self, message: str, party: int | None = None) -> None:
        """Say what is forged, and whose it is said to be."""
        super().__init__(message)
        self.party = party


def context(purpose: str, *parts: Part) -> bytes:
    """Name what a key is for; different parts never give the same name."""
    return json.dumps([PROTOCOL, purpose, *parts]).encode("ascii")


def derive(secret: bytes, name: bytes) -> bytes:
    """Derive the key for one context from a secret."""
    return HKDF(SHA256(), KEY_BYTES, None, name).derive(secret)


def draw_secret() -> bytes:
    """Draw a secret, or an X25519 private key, from the system's randomness."""
    return secrets.token_bytes(KEY_BYTES)


def public_of(private: bytes) -> bytes:
    """Return the X25519 public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, party: int | None = None) -> bytes:
    """Agree on a secret with the holder of a public key (X25519, RFC 7748).

    Args:
        private: One's own key.
        public: The other's key.
        party: The other's number, if it has one.

    Raises:
        ForgedKeyError: If the public key is one that gives everybody the same secret.
    """
    try:
        other = X25519PublicKey.from_public_bytes(public)
        return X25519PrivateKey.from_private_bytes(private).exchange(other)
    except ValueError:
        whose = "" if party is None else f" of party {party}"
        raise ForgedKeyError(
            f"A public key{whose} is none of X25519's. Nothing is sent; run without "
            "the party that made it.",
            party,
        ) from None


def authenticate(key: bytes, message: bytes) -> bytes:
    """Tag a message with the key that the parties share (HMAC with SHA-256)."""
    return hmac.digest(derive(key, context("authentication")), message, "sha256")


def is_genuine(key: bytes, message: bytes, tag: bytes) -> bool:
    """Return whether a holder of the parties' key tagged the message."""
    return hmac.compare_digest(authenticate(key, message), tag)


def seal(secret: bytes, name: bytes, plain: bytes) -> bytes:
    """Encrypt for one receiver and one context (ChaCha20-Poly1305, RFC 8439)."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = ChaCha20Poly1305(derive(secret, name)).encrypt(nonce, plain, name)
    return nonce + sealed


def unseal(secret: bytes, name: bytes, sealed: bytes) -> bytes:
    """Undo `seal`.

    Raises:
        ForgedKeyError: If it was sealed with another secret or for another context, or
            was changed.
    """
    nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return ChaCha20Poly1305(derive(secret, name)).decrypt(nonce, rest, name)
    except (InvalidTag, ValueError):
        raise ForgedKeyError("A sealed share cannot be opened.") from None
