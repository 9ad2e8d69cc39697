"""The Merkle tree of RFC 6962: hashes, roots, and proofs. Nothing here knows a database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_SIZE = 32
_PAIR = 2 * HASH_SIZE
EMPTY_ROOT = hashlib.sha256(b"").digest()
# No tree has more leaves, and no proof more hashes than twice its depth.
MAX_SIZE = 1 << 62
_MOST_HASHES = 124


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two subtrees side by side."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def as_bytes(value: object) -> bytes:
    """Return what a column of bytes holds; SQL can write something else there on SQLite, which is no hash."""
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else b""


def as_hash(value: object) -> bytes:
    """Return what a column of hashes holds; what is too long or too short for one stands for no leaf at all.

    A stack of it would give no root, where a wrong root is to be found.
    """
    found = as_bytes(value)
    return found if len(found) == HASH_SIZE else EMPTY_ROOT


class Stack:
    """The full subtrees that a tree of some size consists of, largest first: enough to append and to know the root.

    Args:
        size: How many leaves there are.
        hashes: The roots of the subtrees, one per bit that is set in the size.

    """

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if len(hashes) != size.bit_count():
            msg = f"A tree of size {size} has {size.bit_count()} full subtrees, not {len(hashes)}."
            raise ValueError(msg)
        if any(len(item) != HASH_SIZE for item in hashes):
            msg = f"The root of a subtree has {HASH_SIZE} bytes."
            raise ValueError(msg)
        self.size, self.hashes = size, list(hashes)

    @classmethod
    def unpacked(cls, size: int, data: bytes) -> Stack:
        """Return the stack whose hashes are ``data``, one after the other."""
        return cls(size, [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)])

    def packed(self) -> bytes:
        """Return the hashes one after the other."""
        return b"".join(self.hashes)

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        size, hashes = self.size, self.hashes
        while size & 1:
            leaf = node_hash(hashes.pop(), leaf)
            size >>= 1
        hashes.append(leaf)
        self.size += 1

    def extend(self, leaves: bytes) -> None:
        """Add hashes of leaves, one after the other: row by row, which takes less than one by one."""
        rest: list[bytes] = []
        row, size = leaves, self.size
        while row:
            if size & 1:
                row = self.hashes.pop() + row
            if len(row) % _PAIR:
                rest.append(row[-HASH_SIZE:])
            ends = range(_PAIR, len(row) + 1, _PAIR)
            row = b"".join([hashlib.sha256(b"\x01" + row[end - _PAIR : end]).digest() for end in ends])
            size >>= 1
        self.hashes += reversed(rest)
        self.size += len(leaves) // HASH_SIZE

    def root(self) -> bytes:
        """Return the root."""
        if not self.hashes:
            return EMPTY_ROOT
        *rest, root = self.hashes
        for left in reversed(rest):
            root = node_hash(left, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root of a tree of these leaf hashes."""
    stack = Stack()
    for leaf in leaves:
        stack.append(leaf)
    return stack.root()


# Returns the root of the leaves from the first number to the second, that one not included.
Subtree = Callable[[int, int], bytes]


def _split(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the hashes that lead from a leaf to the root of a tree."""
    proof, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(subtree(middle, end))
            end = middle
        else:
            proof.append(subtree(start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the hashes that show a tree to begin with all the leaves of an older one."""
    proof, start, end, is_whole = [], 0, size, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(subtree(middle, end))
            end = middle
        else:
            proof.append(subtree(start, middle))
            start, is_whole = middle, False
    return ([] if is_whole else [subtree(start, end)]) + proof[::-1]


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether a proof leads from a leaf to a root."""
    if not (0 <= index < size <= MAX_SIZE and _are_hashes((leaf, root, *proof))):
        return False
    found, last = leaf, size - 1
    for sibling in proof:
        if last == 0:
            return False
        if index & 1 or index == last:
            found = node_hash(sibling, found)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and found == root


def is_consistent(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether a proof shows that a tree begins with all the leaves of an older one."""
    if not (0 < old <= size <= MAX_SIZE and _are_hashes((old_root, root, *proof))):
        return False
    if old == size:
        return not proof and old_root == root
    hashes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    return bool(hashes) and _joins(old - 1, size - 1, hashes) == (old_root, root)


def _joins(index: int, last: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    while index & 1:
        index, last = index >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return None
        if index & 1 or index == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        index, last = index >> 1, last >> 1
    return (old, new) if last == 0 else None


def _are_hashes(hashes: Sequence[bytes]) -> bool:
    return len(hashes) <= _MOST_HASHES and all(len(item) == HASH_SIZE for item in hashes)
