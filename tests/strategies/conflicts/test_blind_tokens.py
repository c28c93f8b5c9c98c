"""Laws of blind tokens: equal requests are equal, and nothing else can be seen."""

import hashlib
import hmac
import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from editing.requests.normalise import normalise
from strategies.conflicts.blind_tokens import (
    KEY_BYTES,
    BlindToken,
    blind,
    keep_key,
    make_key,
    read_key,
)

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
TEXTS = st.text(min_size=1).filter(str.strip)


def ask(
    target: str = "English",
    subject: str = "Tilda Varnmoor",
    prompt: str = "The mother tongue of {} is",
) -> EditRequest:
    """Make a request; unless changed, always the same."""
    return EditRequest(case_id=0, prompt=prompt, subject=subject, target_new=target)


@given(subject=TEXTS, target=TEXTS)
def test_a_token_is_the_keyed_digest_of_the_normal_forms(
    subject: str, target: str
) -> None:
    """HMAC-SHA256, cut to 16 bytes; the target's digest is about the fact, too."""

    def digest(*parts: str) -> str:
        return hmac.new(KEY, json.dumps(parts).encode(), hashlib.sha256).hexdigest()[
            :32
        ]

    fact = digest("fact", normalise(subject), "the mother tongue of {} is")
    token = BlindToken(fact, digest("target", fact, normalise(target)))
    assert blind(ask(target, subject), KEY) == token


def test_one_normal_form_and_key_make_one_token() -> None:
    """However the party writes it; case number and evaluating prompts do not matter."""
    spelt = EditRequest(
        case_id=9,
        prompt="the mother  tongue of {} is:",
        subject="TILDA VARNMOOR",
        target_new=" english.",
        target_true="French",
        paraphrase_prompts=("Tilda Varnmoor, a native",),
    )
    assert blind(spelt, KEY) == blind(ask(), KEY)


def test_another_key_makes_other_tokens() -> None:
    """Tokens of two groups of parties cannot be matched."""
    ours, theirs = blind(ask(), KEY), blind(ask(), OTHER_KEY)
    assert ours.fact != theirs.fact
    assert ours.target != theirs.target


def test_a_contradiction_shows_as_one_fact_and_two_targets() -> None:
    """That is all that the server needs."""
    ours, theirs = blind(ask("English"), KEY), blind(ask("German"), KEY)
    assert ours.fact == theirs.fact
    assert ours.target != theirs.target


@pytest.mark.parametrize("change", [{"subject": "Leonor"}, {"prompt": "{} speaks"}])
def test_equal_targets_of_two_facts_cannot_be_linked(change: dict[str, str]) -> None:
    """Else frequent answers could be counted, and guessed."""
    ours, theirs = blind(ask(), KEY), blind(ask(**change), KEY)
    assert ours.fact != theirs.fact
    assert ours.target != theirs.target


def test_a_paraphrase_is_another_fact_to_a_digest() -> None:
    """What it cannot see: the same knowledge, asked for in other words."""
    said = blind(ask(prompt="The native language of {} is"), KEY)
    assert said.fact != blind(ask(), KEY).fact


def test_subject_and_prompt_cannot_run_into_each_other() -> None:
    """The same letters, cut elsewhere, are another fact."""
    ours, theirs = ask(subject="ab", prompt="c{}"), ask(subject="a", prompt="bc{}")
    assert blind(ours, KEY).fact != blind(theirs, KEY).fact
    quoted = ask(subject='a", "b', prompt="c{}"), ask(subject="a", prompt='b", "c{}')
    assert len({blind(each, KEY).fact for each in quoted}) == 2


@given(subject=TEXTS, target=TEXTS)
def test_a_token_has_one_length_whatever_is_asked(subject: str, target: str) -> None:
    """32 hexadecimal digits each: not even the length of a text gets out."""
    token = blind(ask(target, subject), KEY)
    for digest in (token.fact, token.target):
        assert len(bytes.fromhex(digest)) == 16
        assert len(digest) == 32


def test_a_short_key_is_refused() -> None:
    """It could be found by trying."""
    with pytest.raises(InputError, match=r"at least 32 bytes, got 31"):
        blind(ask(), KEY[:31])


def test_keys_are_long_enough_and_never_the_same() -> None:
    """Drawn anew each time."""
    keys = {make_key() for _ in range(50)}
    assert len(keys) == 50
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_a_key_is_made_once_and_read_after_that(tmp_path: Path) -> None:
    """One line of text that its owner alone may read, and nothing left next to it."""
    path = tmp_path / "shared" / "key"
    key = keep_key(path)
    assert path.read_text(encoding="ascii") == key.hex() + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert keep_key(path) == read_key(path) == key
    assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_threads_that_race_get_one_key(tmp_path: Path) -> None:
    """Time after time."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            path = tmp_path / str(number)
            assert len(set(pool.map(keep_key, [path] * 16))) == 1


def test_processes_that_race_get_one_key(tmp_path: Path) -> None:
    """Parties of a simulation start together."""
    paths = [tmp_path / str(number) for number in range(10)]
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        keys = list(pool.map(keep_key, [path for path in paths for _ in range(4)]))
    assert len(set(keys)) == len(paths)
    assert keys[::4] == [read_key(path) for path in paths]


@pytest.mark.parametrize("lost", [False, True])
def test_who_comes_second_leaves_the_first_key_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Even if the file appears after looking for it."""
    path = tmp_path / "key"
    path.write_text(KEY.hex(), encoding="ascii")
    if lost:
        monkeypatch.setattr(Path, "exists", lambda _: False)
    assert keep_key(path) == KEY
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one line of 64 or more hexadecimal digits"),
        ("a secret\n", "one line of 64 or more hexadecimal digits"),
        ("ab" * 31 + "g0", "one line of 64 or more hexadecimal digits"),
        ("ab" * 20 + "\n" + "cd" * 20, "one line of 64 or more hexadecimal digits"),
        ("é" * 64, "one line of 64 or more hexadecimal digits"),
        ("ab" * 31, "at least 32 bytes, got 31"),
    ],
)
def test_a_file_that_holds_no_key_is_named_and_not_shown(
    tmp_path: Path, text: str, message: str
) -> None:
    """And not written over either."""
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    for read in (read_key, keep_key):
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert text == "" or text.strip() not in str(caught.value)
    assert path.read_text(encoding="utf-8") == text


def test_a_key_that_cannot_be_read_or_made_is_named(tmp_path: Path) -> None:
    """By its file, with the system's reason."""
    with pytest.raises(InputError, match=r"key: cannot be read \(No such file"):
        read_key(tmp_path / "key")
    (tmp_path / "file").write_text("", encoding="ascii")
    with pytest.raises(InputError, match="the key cannot be made here"):
        keep_key(tmp_path / "file" / "key")
