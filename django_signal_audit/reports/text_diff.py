"""Which words of a text changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import NamedTuple

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
# Comparing takes the square of this in the worst case; of longer stretches, all words count as changed.
MAX_WORDS = 600
MIN_WORDS = 4
# Two texts that have less than this in common are two texts.
ALIKE = 0.3
# Of what stays the same, this much is shown before and after a change.
AROUND = 120


class Part(NamedTuple):
    """A piece of a text, and whether the other text lacks it."""

    text: str
    is_changed: bool


def mark_words(old: str, new: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Return both texts in parts; none of either if the texts are short, or have little in common."""
    before, after = _WORD.findall(old), _WORD.findall(new)
    if min(len(before), len(after)) < MIN_WORDS:
        return (), ()
    codes = _compare(before, after)
    same = sum(end - start for tag, start, end, _, _ in codes if tag == "equal")
    if 2 * same < ALIKE * (len(before) + len(after)):
        return (), ()
    return (
        tuple(_parts(before, [(tag, start, end) for tag, start, end, _, _ in codes])),
        tuple(_parts(after, [(tag, start, end) for tag, _, _, start, end in codes])),
    )


def _compare(before: list[str], after: list[str]) -> list[tuple[str, int, int, int, int]]:
    """Return what is equal and what is not, as ``SequenceMatcher.get_opcodes`` does."""
    shorter = min(len(before), len(after))
    head = next((at for at in range(shorter) if before[at] != after[at]), shorter)
    rest = shorter - head
    tail = next((at for at in range(rest) if before[-1 - at] != after[-1 - at]), rest)
    middle, other = before[head : len(before) - tail], after[head : len(after) - tail]
    if max(len(middle), len(other)) > MAX_WORDS:
        changed = [("replace", 0, len(middle), 0, len(other))]
    else:
        changed = list(SequenceMatcher(None, middle, other, autojunk=False).get_opcodes())
    return [
        ("equal", 0, head, 0, head),
        *((tag, start + head, end + head, at + head, to + head) for tag, start, end, at, to in changed),
        ("equal", len(before) - tail, len(before), len(after) - tail, len(after)),
    ]


def _parts(words: list[str], codes: list[tuple[str, int, int]]) -> Iterator[Part]:
    for position, (tag, start, end) in enumerate(codes):
        text = "".join(words[start:end])
        if tag == "equal":
            text = _cut(text, is_first=position == 0, is_last=position == len(codes) - 1)
        if text:
            yield Part(text, tag != "equal")


def _cut(text: str, *, is_first: bool, is_last: bool) -> str:
    """Return what stands next to a change; what is far from any is left out."""
    if len(text) <= 2 * AROUND + 20:
        return text
    head = "" if is_first else text[:AROUND]
    tail = "" if is_last else text[-AROUND:]
    return f"{head} … {tail}"
