#!/usr/bin/env python3
"""Verifies a proof of an audit event: one file, nothing but Python's standard library, and no Django.

    python standalone.py bundle.json --key "example.com/audit+0a1b2c3d+AQ..."

A bundle is made by ``manage.py audit_prove``. The key is the public key that you got from the log's operator by a way
of your own: the one inside the bundle proves nothing. With ``--checkpoint FILE`` the bundle's checkpoint must be the
one in the file, which you kept.

Exit codes: 0 proved, 1 refused, 2 the files or options cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Ed25519 by RFC 8032, section 5.1. It is slow, and a proof has one signature.
_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT = pow(2, (_P - 1) // 4, _P)
Point = tuple[int, int, int, int]


class Refused(Exception):
    """The bundle proves nothing; the message says why."""


def _x_of(y: int, sign: int) -> int | None:
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    if square == 0:
        return None if sign else 0
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT % _P
    if (x * x - square) % _P:
        return None
    return _P - x if x & 1 != sign else x


def _point(data: bytes) -> Point | None:
    number = int.from_bytes(data, "little")
    y = number & ((1 << 255) - 1)
    x = _x_of(y, number >> 255)
    return None if x is None else (x, y, 1, x * y % _P)


def _add(one: Point, other: Point) -> Point:
    a, b = (one[1] - one[0]) * (other[1] - other[0]) % _P, (one[1] + one[0]) * (other[1] + other[0]) % _P
    c, d = 2 * one[3] * other[3] * _D % _P, 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(number: int, point: Point) -> Point:
    found: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            found = _add(found, point)
        point, number = _add(point, point), number >> 1
    return found


def _base() -> Point:
    y = 4 * pow(5, _P - 2, _P) % _P
    x = _x_of(y, 0) or 0
    return x, y, 1, x * y % _P


def ed25519_verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a signature is the key's."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, start = _point(public), _point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or start is None or scalar >= _L:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    left = _times(scalar, _base())
    right = _add(start, _times(int.from_bytes(digest, "little") % _L, key))
    return not ((left[0] * right[2] - right[0] * left[2]) % _P or (left[1] * right[2] - right[1] * left[2]) % _P)


def _bytes(text: object, length: int | None = None) -> bytes:
    if not isinstance(text, str):
        raise Refused("A text in Base64 is missing.")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(f"{text[:40]!r} isn't Base64.") from error
    if base64.b64encode(data).decode() != text or (length is not None and len(data) != length):
        raise Refused(f"{text[:40]!r} isn't the Base64 text of {length} bytes.")
    return data


def _number(value: object, most: int = 1 << 62) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Refused(f"{value!r} isn't a number of a leaf.")
    return value


def parse_key(text: str) -> tuple[str, bytes, bytes]:
    """Return the name, the hash and the bytes of a public key."""
    name, _, rest = text.strip().partition("+")
    number, _, encoded = rest.partition("+")
    data = _bytes(encoded, 33)
    digest = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
    if data[:1] != b"\x01" or digest.hex() != number:
        raise Refused("The key isn't an Ed25519 key of the form name+hash+base64.")
    return name, digest, data[1:]


def parse_checkpoint(note: object) -> tuple[str, int, bytes, str, list[str]]:
    """Return the origin, size, root, text and signature lines of a checkpoint."""
    if not isinstance(note, str) or not note.endswith("\n"):
        raise Refused("There is no checkpoint, or it is cut off.")
    text, mark, rest = note.rpartition("\n\n")
    text, signatures = (f"{text}\n", rest.removesuffix("\n").split("\n")) if mark else (note, [])
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0] or not re.fullmatch("0|[1-9][0-9]{0,18}", lines[1], re.ASCII):
        raise Refused("The checkpoint doesn't have an origin, a size and a root.")
    return lines[0], int(lines[1]), _bytes(lines[2], 32), text, signatures


def require_signature(note: str, key: str) -> None:
    """Refuse a checkpoint that the key did not sign."""
    name, digest, public = parse_key(key)
    text, signatures = parse_checkpoint(note)[3:]
    for line in signatures:
        match = re.fullmatch(r"\u2014 (\S+) (\S+)", line)
        if match is None:
            raise Refused("The checkpoint has a line that isn't a signature.")
        if match[1] == name and (data := _bytes(match[2]))[:4] == digest:
            if ed25519_verifies(public, data[4:], text.encode()):
                return
            raise Refused("The signature of the checkpoint is wrong.")
    raise Refused(f"The checkpoint isn't signed by {name}.")


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Return the root that a proof leads to (RFC 9162, section 2.1.3.2)."""
    if index >= size:
        raise Refused("The leaf lies behind the end of the tree.")
    found, last = leaf, size - 1
    for sibling in proof:
        if last == 0:
            raise Refused("The proof is too long.")
        if index & 1 or index == last:
            found = _node(sibling, found)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            found = _node(found, sibling)
        index, last = index >> 1, last >> 1
    if last:
        raise Refused("The proof is too short.")
    return found


def roots_from_consistency(old: int, size: int, root: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the roots of both trees that a proof leads to (RFC 9162, section 2.1.4.2)."""
    if not 0 < old <= size:
        raise Refused("The older tree is empty or larger.")
    if old == size:
        if proof:
            raise Refused("The proof is too long.")
        return root, root
    hashes = [root, *proof] if old & (old - 1) == 0 else list(proof)
    if not hashes:
        raise Refused("The proof is too short.")
    return _climb(old - 1, size - 1, hashes)


def _climb(index: int, last: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes]:
    while index & 1:
        index, last = index >> 1, last >> 1
    one = other = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise Refused("The proof is too long.")
        if index & 1 or index == last:
            one, other = _node(sibling, one), _node(sibling, other)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            other = _node(other, sibling)
        index, last = index >> 1, last >> 1
    if last:
        raise Refused("The proof is too short.")
    return one, other


def _hashes(bundle: dict[str, Any]) -> list[bytes]:
    proof = bundle.get("proof")
    if not isinstance(proof, list) or len(proof) > 124:
        raise Refused("There is no proof.")
    return [_bytes(item, 32) for item in proof]


def verify_event(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return the event that a bundle proves by its checkpoint, with the personal values that it shows.

    Raises:
        Refused: It proves none.

    """
    text = bundle.get("leaf")
    if not isinstance(text, str):
        raise Refused("There is no leaf.")
    size, root = parse_checkpoint(bundle.get("checkpoint"))[1:3]
    leaf = hashlib.sha256(b"\x00" + text.encode()).digest()
    if root_from_inclusion(leaf, _number(bundle.get("index")), size, _hashes(bundle)) != root:
        raise Refused("The event isn't in the tree of the checkpoint.")
    event = json.loads(text)
    if not isinstance(event, dict) or not isinstance(event.get("sd"), dict):
        raise Refused("The leaf isn't an event.")
    digests = dict(event.pop("sd"))
    shown = bundle.get("disclosures", [])
    if not isinstance(shown, list):
        raise Refused("The disclosures aren't a list.")
    event["personal"] = {}
    for item in shown:
        path, value = _disclosed(item, digests)
        event["personal"][path] = value
    event["erased"] = sorted(digests)
    return event


def _disclosed(text: object, digests: dict[str, str]) -> tuple[str, Any]:
    if not isinstance(text, str):
        raise Refused("A disclosure isn't a text.")
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        _salt, path, value = json.loads(data)
    except (ValueError, TypeError) as error:
        raise Refused("A disclosure can't be read.") from error
    if not isinstance(path, str) or digests.pop(path, None) != digest:
        raise Refused(f"The value of {path!r} isn't the one that was sealed.")
    return path, value


def verify_growth(bundle: dict[str, Any]) -> tuple[int, int]:
    """Return the sizes of two checkpoints between which the log only grew; Refused if that isn't proved."""
    _, old, old_root, *_ = parse_checkpoint(bundle.get("old_checkpoint"))
    _, size, root, *_ = parse_checkpoint(bundle.get("checkpoint"))
    if roots_from_consistency(old, size, old_root, _hashes(bundle)) != (old_root, root):
        raise Refused("The newer log doesn't begin with the older one.")
    return old, size


def _require_checkpoint(bundle: dict[str, Any], name: str) -> None:
    held = parse_checkpoint(Path(name).read_text(encoding="utf-8"))[:3]
    # A log that has grown is proved to begin with what was kept, or to end with it.
    own = {"old_checkpoint", "checkpoint"} & bundle.keys() or {"checkpoint"}
    if held not in [parse_checkpoint(bundle.get(which))[:3] for which in own]:
        raise Refused("The bundle's checkpoint isn't the one that you kept. Ask for a proof by that one.")


def _shown(event: dict[str, Any]) -> str:
    """Return an event as JSON in which nothing steers the terminal, or reads in the other direction."""
    text = json.dumps(event, ensure_ascii=False, indent=1)
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def _events(size: int) -> str:
    return f"{size} event{'' if size == 1 else 's'}"


def _require_one_of(note: str, keys: Sequence[str]) -> None:
    """Refuse a checkpoint that none of the keys signed: the log's operator may have changed the key in between."""
    refused: list[str] = []
    for key in keys:
        try:
            return require_signature(note, key)
        except Refused as error:
            refused.append(str(error))
    raise Refused(" ".join(dict.fromkeys(refused)))


def _proved(name: str, keys: Sequence[str], checkpoint: str | None) -> str:
    """Return what a file proves, once all of it is verified."""
    bundle = json.loads(Path(name).read_text(encoding="utf-8"))
    if not isinstance(bundle, dict):
        raise Refused("The file isn't a bundle.")
    if checkpoint:
        _require_checkpoint(bundle, checkpoint)
    if "old_checkpoint" in bundle:
        old, size = verify_growth(bundle)
        proved = f"The log of {_events(size)} begins with the log of {_events(old)}."
    else:
        proved = _shown(verify_event(bundle))
    if not keys:
        return f"{proved}\nProved by the checkpoint, whose signature was NOT verified: there is no --key.\n"
    for note in {"old_checkpoint", "checkpoint"} & bundle.keys():
        _require_one_of(bundle[note], keys)
    return f"{proved}\nProved, and signed by the key.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify a file and return the exit code."""
    parser = argparse.ArgumentParser(description="Verify a proof of an audit event.")
    parser.add_argument("bundle", help="the file that audit_prove wrote")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        help="the public key, as you got it from the operator of the log; repeatable, for a key and its successor",
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="a checkpoint that you kept")
    options = parser.parse_args(arguments)
    # A console may lack characters of the event, which proves nothing about it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.stdout.write(_proved(options.bundle, options.key, options.checkpoint))
    except Refused as error:
        sys.stderr.write(f"REFUSED: {error}\n")
        return 1
    except (OSError, ValueError, RecursionError) as error:
        sys.stderr.write(f"The file can't be read: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
