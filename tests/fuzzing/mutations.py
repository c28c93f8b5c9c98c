"""Damage of files and of JSON values, drawn from a seed.

A form says how the bytes of a file are taken apart: what is damaged is then a value of
it as often as a byte.
"""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np

DEEP = "@deep@"
"""Stands in a tree for a list too deep for a tree, until it is written."""

DEPTHS = (70, 900, 20_000, 200_000)

NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30),
    *(0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "\x00", "\x1b[2J", "\u202eevil", "[bold]x[/]", "=cmd()", "\ud83d"),
    *("{}", "../../x", "9" * 5000, "x" * 3000, "1", "-1", "nan", "²"),
    *([], {}, [[]], [None], {"a": {}}, [{}], DEEP),
)
"""Values that readers stumble over."""

LITERALS = (
    *("", "[", "]]", "{", '"', "'", "null", "true", "-1", "0", "99999999999999999999"),
    *("1e400", "nan", "-inf", "1979-05-27T07:32:00Z", "0x1", '"\\u0000"', '"\x1b[2J"'),
    *("[1, [2", '"\u202e"', "[[]]", "{a = 1}", "&a [*a]", "!!python/name:os.system"),
    *("? [a]", "<<: x", "---", "\x00", "9" * 5000),
)
"""What may stand in the place of a value in TOML, YAML or plain text."""

DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "C64", "X", "F8_E4M3")
SHAPES: tuple[list[int], ...] = (
    *([], [0], [1], [0, 0], [0, 3], [3, 0], [1, 1], [2, 2, 2]),
    *([2**31, 2**31], [2**40], [-1, 4], [4], [10**9, 0]),
)


def damage(data: bytes, form: str, random: Random) -> bytes:
    """Damage a file once or a few times, by its form or by its bytes.

    Args:
        data: A sound file.
        form: A key of `FORMS`, or another word for one of bytes alone.
        random: Draws all.
    """
    change = FORMS.get(form)
    if change is None or random.random() < 0.25:
        return damage_bytes(data, random)
    try:
        return change(data, random)
    except RecursionError:
        return data


def damage_bytes(data: bytes, random: Random) -> bytes:
    """Flip, cut, insert, repeat or replace bytes."""
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 2, 8, 64)))
        some = random.randbytes(random.choice((0, 1, 4, 64)))
        data = random.choice(
            (
                data[:at],
                data[:at] + some + data[end:],
                data[:at] + some + data[at:],
                data[:at] + data[at:end] * 2 + data[end:],
                data[:at] + bytes([random.choice((0, 255, 27, 0xED))]) + data[at + 1 :],
                some,
                b"\xef\xbb\xbf" + data,
            )
        )
    return data


def damage_tree(tree: Any, random: Random) -> Any:  # noqa: ANN401 - any JSON value
    """Replace, drop, repeat or rename something in a JSON value."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        tree = _damage_once(tree, random)
    return tree


def _damage_once(tree: Any, random: Random) -> Any:  # noqa: ANN401
    if not isinstance(tree, dict | list) or not tree or random.random() < 0.15:
        return random.choice(NASTY)
    if isinstance(tree, dict):
        key = random.choice(list(tree))
        chosen = random.random()
        if chosen < 0.15:
            return {k: v for k, v in tree.items() if k != key}
        if chosen < 0.3:
            new = str(random.choice((*NASTY, key.upper(), f"{key}0", f"{key}.")))
            return {new if k == key else k: v for k, v in tree.items()}
        return {**tree, key: _damage_once(tree[key], random)}
    at = random.randrange(len(tree))
    chosen = random.random()
    if chosen < 0.15:
        return tree[:at] + tree[at + 1 :]
    if chosen < 0.3:
        return [*tree, tree[at]]
    return [*tree[:at], _damage_once(tree[at], random), *tree[at + 1 :]]


def write_tree(tree: Any, random: Random) -> str:  # noqa: ANN401
    """Write a JSON value, deep lists and numbers that are not finite included."""
    text = json.dumps(tree)
    depth = random.choice(DEPTHS)
    return text.replace(f'"{DEEP}"', "[" * depth + "]" * depth)


def _json(data: bytes, random: Random) -> bytes:
    return write_tree(damage_tree(json.loads(data), random), random).encode()


def _json_lines(data: bytes, random: Random) -> bytes:
    lines = data.decode().splitlines()
    at = random.randrange(len(lines))
    lines[at] = write_tree(damage_tree(json.loads(lines[at]), random), random)
    return "\n".join(lines).encode() + b"\n" * random.randrange(2)


def _text(data: bytes, random: Random) -> bytes:
    """Put a literal in the place of what follows a sign, or a line between others."""
    lines = data.decode().splitlines()
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(lines))
        sign = next((sign for sign in "=:" if sign in lines[at]), None)
        key = lines[at].partition(sign)[0] + sign if sign else ""
        deep = random.choice(DEPTHS[:3])
        nested = random.choice(("[" * deep, "[" * deep + "]" * deep, "- " * deep))
        value = random.choice((*LITERALS, nested))
        if random.random() < 0.2:
            lines.insert(
                at, random.choice(LITERALS) + random.choice(("", " = 1", ": 1"))
            )
        else:
            lines[at] = f"{key} {value}"
    return "\n".join(lines).encode(errors="surrogatepass")


def join_safetensors(header: Mapping[str, Any] | str, data: bytes) -> bytes:
    """Write a header and the bytes of tensors."""
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + data


def split_safetensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Undo `join_safetensors`."""
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _safetensors(data: bytes, random: Random) -> bytes:
    header, rest = split_safetensors(data)
    chosen = random.random()
    texts = header.get("__metadata__")
    if chosen < 0.35 and texts:
        name = random.choice(list(texts))
        texts[name] = _damage_text(texts[name], random)
        return join_safetensors(header, rest)
    if chosen < 0.75:
        return join_safetensors(*_damage_tensor(header, rest, random))
    return join_safetensors(write_tree(damage_tree(header, random), random), rest)


def _damage_text(text: str, random: Random) -> str:
    try:
        return write_tree(damage_tree(json.loads(text), random), random)
    except ValueError:
        return str(random.choice(NASTY)).encode(errors="replace").decode()


def _damage_tensor(
    header: dict[str, Any], data: bytes, random: Random
) -> tuple[dict[str, Any], bytes]:
    """Give one tensor another kind, shape or numbers; the file stays well formed."""
    names = [name for name in header if name != "__metadata__"]
    if not names:
        return header, data
    name = random.choice(names)
    start, end = header[name]["data_offsets"]
    old = data[start:end]
    if random.random() < 0.3:  # other numbers: NaN, infinities, the largest there are
        odd = random.choice((b"\xff", b"\x7f", b"\x00", b"\x80", b"\x7e"))
        return header, data[:start] + odd * len(old) + data[end:]
    kind, shape = random.choice(DTYPES), random.choice(SHAPES)
    sizes = {"F64": 8, "I64": 8, "C64": 8, "F32": 4, "F16": 2, "BF16": 2}
    count = int(np.prod([max(each, 0) for each in shape], dtype=object))
    size = count * sizes.get(kind, 1)
    if size > 10**6 or random.random() < 0.2:
        header[name] |= {"shape": shape, "dtype": kind}
        return header, data
    # The tensor goes last, so that all others keep their places.
    kept, at = {"__metadata__": header.get("__metadata__", {})}, 0
    parts = []
    for other in (each for each in names if each != name):
        first, last = header[other]["data_offsets"]
        parts.append(data[first:last])
        kept[other] = header[other] | {"data_offsets": [at, at + last - first]}
        at += last - first
    kept[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
    return kept, b"".join(parts) + random.randbytes(size)


def _npz(data: bytes, random: Random) -> bytes:
    """Damage one array's header or numbers, or the compressed bytes of the archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    name = random.choice(list(members))
    members[name] = _npy(members[name], random)
    out = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", method) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    whole = out.getvalue()
    if random.random() < 0.3:
        at = random.randrange(30, max(31, len(whole) // 2))
        whole = whole[:at] + random.randbytes(8) + whole[at + 8 :]
    return whole


def _npy(data: bytes, random: Random) -> bytes:
    """Rewrite the header of an array, or its numbers."""
    stream = io.BytesIO(data)
    np.lib.format.read_magic(stream)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    rest = stream.read()
    chosen = random.random()
    if chosen < 0.25:
        odd = random.choice((b"\xff", b"\x7f", b"\x00", b"\x80"))
        rest = odd * len(rest)
    elif chosen < 0.6:
        shape = random.choice((*map(tuple, SHAPES), (40_000, 40_000)))
    else:
        kinds = ("<f8", "<f4", "<f2", "<i8", "|i1", "|b1", "<c16", "|O", "<U3", "|V8")
        dtype = np.dtype(random.choice(kinds))
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": random.choice((fortran, True)),
        "shape": shape,
    }
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, described)
    return out.getvalue() + rest


FORMS: Mapping[str, Callable[[bytes, Random], bytes]] = {
    "json": _json,
    "jsonl": _json_lines,
    "toml": _text,
    "yaml": _text,
    "safetensors": _safetensors,
    "npz": _npz,
    "npy": _npy,
}
"""How a file of a form is taken apart."""
