"""Blind tokens: keyed digests that identify requests without revealing them.

Without the key, two tokens reveal only whether they are about one fact, and then
whether they request the same object. With the key, guesses can be tested, so the key
belongs to the parties and never to the server.

A digest sees texts, not meanings. The same fact under a paraphrased prompt, another
spelling of the subject or a synonym of the target is another token: such duplicates and
conflicts go unseen, and two targets that could both be true count as a conflict.
"""

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from editing.base.errors import InputError
from editing.files.atomic import create_private
from editing.files.text import read_text
from editing.requests.edit_request import EditRequest
from editing.requests.normalise import normalise

KEY_BYTES = 32
"""Bytes of a new key, and the fewest that a key may have."""

TOKEN_BYTES = 16
"""Bytes that are kept of a digest: enough that no two facts of a run share one."""


@dataclass(frozen=True, slots=True)
class BlindToken:
    """A request as the server sees it, in hexadecimal.

    Attributes:
        fact: Equal for requests on the same subject and relation prompt.
        target: Equal for requests of the same object for the same fact; it reveals
            nothing across facts.
    """

    fact: str
    target: str


def blind(request: EditRequest, key: bytes) -> BlindToken:
    """Digest what a request is about, and what it asks for.

    The key is held to its length, with an `InputError`.
    """
    check_key(key, "the key of the parties")
    about = (normalise(request.subject), normalise(request.prompt))
    fact = _digest(key, "fact", *about)
    return BlindToken(fact, _digest(key, "target", fact, normalise(request.target_new)))


def make_key() -> bytes:
    """Draw a key from the operating system's randomness."""
    return secrets.token_bytes(KEY_BYTES)


def check_key(key: bytes, place: str) -> None:
    """Refuse a key that could be guessed.

    Args:
        key: What the digests are keyed with.
        place: The file or setting it comes from, for the message.

    Raises:
        InputError: If it is too short; the message does not show the key.
    """
    if len(key) < KEY_BYTES:
        raise InputError(
            f"{place}: wanted at least {KEY_BYTES} bytes, got {len(key)}. Make one "
            f"with `openssl rand -hex {KEY_BYTES}` and give it to every party."
        )


def read_key(path: Path) -> bytes:
    """Read a key: one line of hexadecimal text.

    Raises:
        InputError: If the file cannot be read or holds something else; a short key is
            refused in the same way.
    """
    try:
        (text,) = read_text(path).split()
        key = bytes.fromhex(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValueError:
        raise InputError(
            f"{path}: wanted one line of {2 * KEY_BYTES} or more hexadecimal digits. "
            f"Make one with `openssl rand -hex {KEY_BYTES}`."
        ) from None
    check_key(key, str(path))
    return key


def keep_key(path: Path) -> bytes:
    """Read the key, and make it first if there is no file; only its owner may read it.

    Of several processes that make it at once one wins, and all get its key.

    Raises:
        InputError: If the file cannot be made; one that is there and cannot be used is
            refused as by `read_key`.
    """
    try:
        if not path.exists():
            create_private(path, make_key().hex() + "\n")
    except OSError as error:
        raise InputError(
            f"{path}: the key cannot be made here ({error.strerror}). Name a file "
            "in a folder of your own, on a file system with hard links."
        ) from None
    return read_key(path)


def _digest(key: bytes, kind: str, *parts: str) -> str:
    # JSON keeps the parts apart whatever signs they hold.
    framed = json.dumps([kind, *parts]).encode("ascii")
    return hmac.new(key, framed, hashlib.sha256).digest()[:TOKEN_BYTES].hex()
