"""Random damage to files: to bytes, to the numbers in text, to JSON values, to the parts of a zip.

Every function takes the generator of random numbers that makes its choices, so that a case can be
made again from its seed.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, -1)
FORMATS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")
WORDS = (b"nan", b"-inf", b"1e999", b"-1", b"0", b"99999999999999999999", b"0x10", b"1.5", b"")
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 10**18, 10**400, 0.5, float("nan"), float("inf"), 1e308),
    *("", "x", "nan", "20", "\x00", "\ud800", "../../x", "a" * 3000, [], {}, [[]], [1, "x"]),
    *({"a": 1}, {"": None}, [None] * 3),
)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return bytes with one to three changes."""
    for _ in range(draw.randint(1, 3)):
        content = draw.choice(CHANGES)(content, draw)
    return content


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: _place(content, draw)]


def _lengthen(content: bytes, draw: random.Random) -> bytes:
    return content + draw.randbytes(draw.choice((1, 7, 100)))


def _flip(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return (
        content[:at]
        + bytes((byte ^ 1 << draw.randrange(8)) for byte in content[at:][:1])
        + (content[at + 1 :])
    )


def _remove(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + content[at + draw.choice((1, 4, 50)) :]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    part = content[at : at + draw.choice((1, 8, 60))]
    return content[:at] + part * draw.choice((2, 3, 200)) + content[at + len(part) :]


def _swap(content: bytes, draw: random.Random) -> bytes:
    first, second = sorted((_place(content, draw), _place(content, draw)))
    size = min(draw.choice((1, 4, 16, 60)), second - first)
    a, b = content[first : first + size], content[second : second + size]
    return content[:first] + b + content[first + size : second] + a + content[second + size :]


def _number(content: bytes, draw: random.Random) -> bytes:
    """Overwrite a place with an integer in one of the usual layouts."""
    kind, at = draw.choice(FORMATS), _place(content, draw)
    size = struct.calcsize(kind)
    value = draw.choice(NUMBERS) % (1 << 8 * size)
    return content[:at] + struct.pack(kind, value) + content[at + size :]


def _word(content: bytes, draw: random.Random) -> bytes:
    """Replace a number that is written as text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:4000]))
    if not found:
        return _number(content, draw)
    match = draw.choice(found)
    return content[: match.start()] + draw.choice(WORDS) + content[match.end() :]


def _place(content: bytes, draw: random.Random) -> int:
    """Return a place, half of the time near one of the ends, where headers are."""
    near = draw.choice((64, 200, len(content), len(content)))
    at = draw.randrange(min(near, len(content)) + 1)
    return at if draw.random() < 0.75 else len(content) - at


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_cut, _lengthen, _flip, _remove, _repeat, _swap, _number, _number, _word),
)


# ---------------------------------------------------------------- values and JSON


def changed_value(value: Any, draw: random.Random) -> Any:
    """Return nested dicts and lists with one entry replaced, removed, renamed or added."""
    if draw.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return draw.choice(VALUES)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key, how = draw.choice(keys), draw.random()
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    if how < 0.12:
        del copy[key]
    elif how < 0.2:
        other = draw.choice(keys)
        copy[key], copy[other] = value[other], value[key]
    elif how < 0.26 and isinstance(copy, dict):
        copy[draw.choice(("", "x", "score", "status"))] = draw.choice(VALUES)
    else:
        copy[key] = changed_value(value[key], draw)
    return copy


def damaged_json(value: Any, draw: random.Random) -> bytes:
    """Return JSON with a changed value, a key that occurs twice, deep nesting, or damaged bytes."""
    how = draw.random()
    if how < 0.55:
        for _ in range(draw.randint(1, 3)):
            value = changed_value(value, draw)
        return json.dumps(value).encode()
    text = json.dumps(value, indent=2).encode()
    if how < 0.6:
        depth = draw.choice((10, 3000, 200_000))
        return b'{"latent_dim": ' + b"[" * depth + b"]" * draw.choice((0, depth)) + b"}"
    if how < 0.65:
        return text.replace(b"{", b'{"status": 1, "latent_dim": 3, "latent_dim": "x",', 1)
    if how < 0.7:
        encoding = draw.choice(("utf-16", "utf-8-sig", "utf-32"))
        return text.decode().encode(encoding)
    return damaged(text, draw)


# ---------------------------------------------------------------- containers


def gzip_bomb(header: bytes, size: int) -> bytes:
    """Return a gzip file of a header and `size` zeros; its checksum is false.

    Takes no time: a full flush ends a block that depends on nothing before it, so one compressed
    block can be repeated.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.flush()
    start = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    return start + first + block * (size >> 20) + last + bytes(8)


def damaged_zip(content: bytes, draw: random.Random) -> bytes:
    """Return a zip with one damaged member, or one that is missing, doubled or compressed.

    Its checksums are right, so that the damage reaches the reader of the member.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(one.filename, archive.read(one)) for one in archive.infolist()]
    number = draw.randrange(len(members))
    name, data = members[number]
    how, method = draw.random(), zipfile.ZIP_STORED
    if how < 0.06:
        del members[number]
    elif how < 0.1:
        members.append((name, damaged(data, draw)))
    elif how < 0.14:
        method = zipfile.ZIP_DEFLATED
    elif how < 0.18:
        members[number] = (draw.choice(("", "../x", name * 30, name.upper())), data)
    else:
        members[number] = (name, damaged(data, draw))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name or "x"), data, method)
    return written.getvalue()


def damaged_png(content: bytes, draw: random.Random) -> bytes:
    """Return a PNG with one damaged chunk, whose checksum is right in most cases."""
    chunks, at = [], 8
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        chunks.append((kind, content[at + 8 : at + 8 + size]))
        at += 12 + size
    number = draw.randrange(len(chunks))
    kind, data = chunks[number]
    how = draw.random()
    if how < 0.35:
        chunks[number] = (kind, damaged(data, draw))
    elif how < 0.5:  # sizes, depth, colour, method, interlacing
        sizes = struct.pack(">II", *draw.choice(((28, 28), (28, 2**31 - 1), (2**32 - 1, 1))))
        chunks[0] = (b"IHDR", sizes + bytes(draw.choice((0, 1, 2, 3, 6, 8, 16)) for _ in range(5)))
    elif how < 0.6:
        text = b"Comment\x00" + zlib.compress(bytes(draw.choice((10, 10**6, 10**7))))
        chunks.insert(1, (draw.choice((b"zTXt", b"iTXt", b"iCCP")), text))
    elif how < 0.7:
        chunks.insert(number, draw.choice(chunks))
    elif how < 0.8:
        chunks[number] = (kind, zlib.compress(bytes(draw.choice((10, 10**6)))))
    else:
        del chunks[number]
    false = 0 if draw.random() < 0.8 else 1
    return content[:8] + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data) ^ false)
        for kind, data in chunks
    )
