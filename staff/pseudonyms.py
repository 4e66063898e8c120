"""Pseudonyms of students: two words and a number, which a secret salt decides.

Without the salt nobody can tell whose a pseudonym is, not even with the list of all students. It is
the HMAC of the student's key (RFC 2104, with SHA-256), so a student keeps theirs from run to run.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from staff.permissions import private_folder
from staff.seeds import seed_of

SALT = "pseudonyms"  # file in the private folder of the results
NUMBERS = range(10, 100)
ADJECTIVES = (
    *(("amber", "琥珀色的"), ("brave", "勇敢的"), ("bright", "明亮的"), ("brisk", "轻快的")),
    *(("calm", "平静的"), ("careful", "细心的"), ("cheerful", "开朗的"), ("clever", "聪明的")),
    *(("curious", "好奇的"), ("daring", "大胆的"), ("eager", "热切的"), ("early", "早起的")),
    *(("fast", "飞快的"), ("friendly", "友好的"), ("gentle", "温和的"), ("golden", "金色的")),
    *(("green", "绿色的"), ("honest", "诚实的"), ("kind", "善良的"), ("lively", "活泼的")),
    *(("lucky", "幸运的"), ("merry", "快乐的"), ("nimble", "灵巧的"), ("patient", "耐心的")),
    *(("polite", "有礼的"), ("proud", "自豪的"), ("quiet", "安静的"), ("silver", "银色的")),
    *(("steady", "稳重的"), ("sunny", "阳光的"), ("tall", "高高的"), ("wise", "睿智的")),
)
ANIMALS = (
    *(("badger", "獾"), ("beaver", "河狸"), ("bison", "野牛"), ("camel", "骆驼")),
    *(("crane", "鹤"), ("deer", "鹿"), ("dolphin", "海豚"), ("eagle", "鹰")),
    *(("falcon", "隼"), ("fox", "狐狸"), ("gecko", "壁虎"), ("hare", "野兔")),
    *(("hedgehog", "刺猬"), ("heron", "苍鹭"), ("ibis", "朱鹮"), ("koala", "考拉")),
    *(("lark", "云雀"), ("lynx", "猞猁"), ("marmot", "土拨鼠"), ("otter", "水獭")),
    *(("owl", "猫头鹰"), ("panda", "熊猫"), ("penguin", "企鹅"), ("pelican", "鹈鹕")),
    *(("robin", "知更鸟"), ("seal", "海豹"), ("sparrow", "麻雀"), ("squirrel", "松鼠")),
    *(("swan", "天鹅"), ("tiger", "老虎"), ("turtle", "海龟"), ("whale", "鲸鱼")),
)


@dataclass(frozen=True, order=True)
class Pseudonym:
    """A pseudonym in both languages, such as "calm heron 47" and "平静的苍鹭 47"."""

    en: str
    zh: str


def salt_in(folder: Path) -> str:
    """Return the salt that a private folder holds; make it if it does not exist.

    Raises SeedError, PermissionsError if others can read it, OSError.
    """
    salt, _ = seed_of(private_folder(folder) / SALT)
    return salt


def known_pseudonyms(keys: Iterable[str], folder: Path) -> dict[str, Pseudonym]:
    """Return the pseudonyms of a class that has a salt in a private folder; {} if it has none.

    Raises SeedError, PermissionsError, OSError.
    """
    return pseudonyms(keys, salt_in(folder)) if (folder / SALT).is_file() else {}


def pseudonyms(keys: Iterable[str], salt: str) -> dict[str, Pseudonym]:
    """Return a pseudonym for each student's key, no two of them equal.

    Of two students with the same words, the one whose hash is greater gets others.
    """
    found: dict[str, Pseudonym] = {}
    taken: set[Pseudonym] = set()
    for key in sorted(keys, key=lambda key: _digest(salt, key, 0)):
        attempt = 0
        while (chosen := _words(_digest(salt, key, attempt))) in taken:
            attempt += 1
        taken.add(chosen)
        found[key] = chosen
    return found


def _digest(salt: str, key: str, attempt: int) -> int:
    message = f"{attempt}\n{key}".encode()
    return int.from_bytes(hmac.digest(salt.encode(), message, hashlib.sha256), "big")


def _words(digest: int) -> Pseudonym:
    rest, adjective = divmod(digest, len(ADJECTIVES))
    rest, animal = divmod(rest, len(ANIMALS))
    number = NUMBERS[rest % len(NUMBERS)]
    (quality, quality_zh), (name, name_zh) = ADJECTIVES[adjective], ANIMALS[animal]
    return Pseudonym(f"{quality} {name} {number}", f"{quality_zh}{name_zh} {number}")
