"""Signed notes and checkpoints as C2SP defines them, and the Ed25519 keys that sign them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from django_signal_audit.evidence.tree import HASH_SIZE, MAX_SIZE
from django_signal_audit.exceptions import SignalAuditError

_ED25519 = b"\x01"
_KEY_LENGTH = 32
_SIGNATURE_LENGTH = 64
_SIGNATURE = re.compile(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+=*)")
_LONGEST_NOTE = 1_000_000
_MOST_SIGNATURES = 100


class NoteError(SignalAuditError):
    """A key, a note or a checkpoint is not what it should be; the message says why."""


class Signer(Protocol):
    """What signs checkpoints: the key of this module, or an adapter of yours to a key management service."""

    @property
    def public_key(self) -> str:
        """Return the key that verifies, as text: ``name+hash+base64``."""

    def sign(self, data: bytes) -> bytes:
        """Return the Ed25519 signature of the data, 64 bytes."""


def _decode(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"{what} isn't valid Base64."
        raise NoteError(msg) from error
    # The last character of a text has bits that no byte needs: two texts must not stand for the same data.
    if base64.b64encode(data).decode() != text:
        msg = f"{what} isn't the Base64 text of its data."
        raise NoteError(msg)
    return data


def _key_hash(name: str, public: bytes) -> bytes:
    return hashlib.sha256(f"{name}\n".encode() + _ED25519 + public).digest()[:4]


def _missing() -> NoteError:
    return NoteError("Signatures need the cryptography package: pip install 'django-signal-audit[evidence]'.")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Verifies checkpoints. Its text is that of Go's ``note`` package."""

    name: str
    key: bytes

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the key a text such as ``example.com/audit+0a1b2c3d+AQ…`` stands for."""
        name, _, rest = text.strip().partition("+")
        number, _, encoded = rest.partition("+")
        key = _decode(encoded, "The public key")
        if not name or any(map(str.isspace, name)) or key[:1] != _ED25519 or len(key) != _KEY_LENGTH + 1:
            msg = "The public key isn't an Ed25519 key of the form name+hash+base64."
            raise NoteError(msg)
        found = cls(name, key[1:])
        if found.hash.hex() != number:
            msg = f"The hash of the public key is {found.hash.hex()}, not {number}."
            raise NoteError(msg)
        return found

    @property
    def hash(self) -> bytes:
        """Return the four bytes that signatures name the key by."""
        return _key_hash(self.name, self.key)

    def __str__(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(_ED25519 + self.key).decode()}"

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Return whether the signature is this key's."""
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError as error:
            raise _missing() from error
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, data)
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """Signs checkpoints. Its text is that of Go's ``note`` package: ``PRIVATE+KEY+name+hash+base64``.

    Args:
        text: The key.

    """

    def __init__(self, text: str) -> None:
        parts = text.strip().split("+", 4)
        if len(parts) != 5 or parts[:2] != ["PRIVATE", "KEY"]:
            msg = "The key must have the form PRIVATE+KEY+name+hash+base64. Make one with audit_seal --generate-key."
            raise NoteError(msg)
        seed = _decode(parts[4], "The key")
        if seed[:1] != _ED25519 or len(seed) != _KEY_LENGTH + 1:
            msg = "The key isn't an Ed25519 key."
            raise NoteError(msg)
        self._seed, self._name = seed[1:], parts[2]
        if _key_hash(self._name, self._public()).hex() != parts[3]:
            msg = "The key is damaged: its hash differs."
            raise NoteError(msg)

    @classmethod
    def generate(cls, name: str) -> str:
        """Return the text of a new key."""
        import secrets

        seed = secrets.token_bytes(_KEY_LENGTH)
        number = _key_hash(name, _public_bytes(seed)).hex()
        return f"PRIVATE+KEY+{name}+{number}+{base64.b64encode(_ED25519 + seed).decode()}"

    def _public(self) -> bytes:
        return _public_bytes(self._seed)

    @property
    def public_key(self) -> str:
        """Return the text of the key that verifies."""
        return str(PublicKey(self._name, self._public()))

    def sign(self, data: bytes) -> bytes:
        """Return the signature."""
        return bytes(_private(self._seed).sign(data))


def _private(seed: bytes):  # type: ignore[no-untyped-def]  # cryptography is optional
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise _missing() from error
    return Ed25519PrivateKey.from_private_bytes(seed)


def _public_bytes(seed: bytes) -> bytes:
    return bytes(_private(seed).public_key().public_bytes_raw())


def time_lines(sealed_at: str, began: int) -> tuple[str, ...]:
    """Return the lines by which a checkpoint says when it was sealed, and from what size of the tree on was searched.

    They are extension lines of C2SP's format: other tools verify them with the signature, and need not know them.
    """
    return f"sealed {sealed_at}", f"began {began}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The size and the root of a tree, whose tree it is, and further lines that are signed with them.

    A checkpoint without such lines was sealed by an early version: its times are not signed.
    """

    origin: str
    size: int
    root: bytes
    lines: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> Self:
        """Return what the text of a checkpoint says."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not lines[0]:
            msg = "A checkpoint has three lines: origin, size and root."
            raise NoteError(msg)
        if not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1], re.ASCII) or int(lines[1]) > MAX_SIZE:
            msg = f"{lines[1][:40]!r} isn't the size of a tree."
            raise NoteError(msg)
        root = _decode(lines[2], "The root")
        if len(root) != HASH_SIZE or base64.b64encode(root).decode() != lines[2]:
            msg = "The root must be the Base64 text of 32 bytes."
            raise NoteError(msg)
        return cls(lines[0], int(lines[1]), root, tuple(lines[3:-1]))

    def __str__(self) -> str:
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.lines)
        return "".join(f"{line}\n" for line in lines)


def sign_note(text: str, signer: Signer | None) -> str:
    """Return a note with its signature; without a signer it is the text alone.

    Raises:
        NoteError: The signature isn't that of the signer's key.

    """
    if signer is None:
        return text
    key = PublicKey.of(signer.public_key)
    data = signer.sign(text.encode())
    # A service may sign with another key, or in another form: each verification would call that a forgery.
    if len(data) != _SIGNATURE_LENGTH or not key.verifies(data, text.encode()):
        msg = f"What the signer returned isn't an Ed25519 signature by {key}."
        raise NoteError(msg)
    signature = base64.b64encode(key.hash + data).decode()
    return f"{text}\n\u2014 {key.name} {signature}\n"


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the text of a note, and the names and bytes of its signatures: none where it is not signed.

    Raises:
        NoteError: It is no note.

    """
    if len(note) > _LONGEST_NOTE or not note.endswith("\n") or any(char < " " and char != "\n" for char in note):
        msg = "It isn't a note: it is too long, unfinished, or has control characters."
        raise NoteError(msg)
    text, mark, rest = note.rpartition("\n\n")
    if not mark:
        return note, []
    found = [_SIGNATURE.fullmatch(line) for line in rest.removesuffix("\n").split("\n")]
    if len(found) > _MOST_SIGNATURES or not all(found):
        msg = "The note has a line that isn't a signature."
        raise NoteError(msg)
    pairs = [(match[1], _decode(match[2], "A signature")) for match in found if match]
    if any(len(data) < 5 for _name, data in pairs):
        msg = "The note has a signature that is too short."
        raise NoteError(msg)
    return f"{text}\n", pairs


def signers_of(note: str, keys: Iterable[PublicKey]) -> tuple[Checkpoint, list[str]]:
    """Return what a note says and which of the keys signed it.

    Raises:
        NoteError: It is no checkpoint, or one of the keys is named by a signature that is not its own.

    """
    text, signatures = split_note(note)
    known = {(key.name, key.hash): key for key in keys}
    good = []
    for name, data in signatures:
        key = known.get((name, data[:4]))
        if key is None:
            continue
        if len(data) != 4 + _SIGNATURE_LENGTH or not key.verifies(data[4:], text.encode()):
            msg = f"The signature of {name} is wrong."
            raise NoteError(msg)
        good.append(str(key))
    return Checkpoint.of(text), good
