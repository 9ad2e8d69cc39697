"""Proofs for others: that one event is in the log, and that a log only grew between two checkpoints."""

from __future__ import annotations

import base64
import json
from typing import Any

from django_signal_audit.evidence.config import verifying_keys
from django_signal_audit.evidence.leaf import COLUMNS, FORMAT, NOT_OURS, disclosures_of, document_of, leaf_text, rows_of
from django_signal_audit.evidence.sealing import latest_checkpoint
from django_signal_audit.evidence.tree import (
    Stack,
    as_bytes,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    is_included,
    leaf_hash,
    node_hash,
    root_of,
)
from django_signal_audit.exceptions import SignalAuditError
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf

# Subtrees up to this size are computed from their leaves.
_FEW = 1024


_DAMAGED = "A leaf or a checkpoint was changed, so there is no proof. Run manage.py audit_verify."


class ProofError(SignalAuditError):
    """There is no proof; the message says why."""


class Tree:
    """The tree as the database holds it: subtrees come from the checkpoints, so a proof reads few leaves.

    Args:
        using: The database.

    """

    def __init__(self, using: str) -> None:
        self._using = using

    def subtree(self, start: int, end: int) -> bytes:
        """Return the root of the leaves from ``start`` on, before ``end``."""
        size = end - start
        if size & (size - 1):
            middle = start + (1 << (size.bit_length() - 1))
            return node_hash(self.subtree(start, middle), self.subtree(middle, end))
        found = self._stored(start, size)
        if found is not None:
            return found
        if size <= _FEW and (hashes := self._leaves(start, end, size)):
            return root_of(hashes)
        if size == 1:
            msg = f"The leaf {start} is gone: it was pruned, or deleted."
            raise ProofError(msg)
        # Of what a prune took from the beginning, smaller subtrees are left.
        middle = start + size // 2
        return node_hash(self.subtree(start, middle), self.subtree(middle, end))

    def _stored(self, start: int, size: int) -> bytes | None:
        """Return the root of a full subtree that some checkpoint consists of."""
        if start // size % 2:
            return None  # it is the right half of a larger one, which is what checkpoints have
        rows = AuditCheckpoint.objects.using(self._using).filter(size__gte=start + size, size__lt=start + 2 * size)
        checkpoint = rows.defer("horizon", "note").order_by("size").first()
        if checkpoint is None:
            return None
        try:
            hashes = Stack.unpacked(checkpoint.size, as_bytes(checkpoint.stack)).hashes
        except ValueError as error:
            raise ProofError(_DAMAGED) from error
        return hashes[(checkpoint.size // size // 2).bit_count()]

    def _leaves(self, start: int, end: int, size: int) -> list[bytes]:
        """Return the hashes of leaves, none if one of them is missing."""
        leaves = AuditLeaf.objects.using(self._using).filter(index__gte=start, index__lt=end).order_by("index")
        hashes = [as_bytes(item) for item in leaves.values_list("hash", flat=True)]
        return hashes if len(hashes) == size else []

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the proof that a leaf is in the tree of a size."""
        return inclusion_proof(index, size, self.subtree)

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Return the proof that the tree of a size begins with the one of an older size."""
        if not 0 < old <= size:
            msg = f"No tree of {size} {'leaf' if size == 1 else 'leaves'} begins with one of {old}."
            raise ProofError(msg)
        return consistency_proof(old, size, self.subtree)


def _encoded(hashes: list[bytes]) -> list[str]:
    return [base64.b64encode(item).decode() for item in hashes]


def bundle_of(event: AuditEvent, using: str, size: int | None = None) -> dict[str, Any]:
    """Return all that proves an event to somebody who has neither Django nor the database.

    Args:
        event: The event.
        using: The database.
        size: The checkpoint to prove it by; the newest by default.

    Raises:
        ProofError: It is not sealed, or is not what was sealed.

    """
    leaf, checkpoint = _sealed(event, using, size)
    rows = rows_of(AuditEvent.of_all_tenants.using(using).filter(uid=event.uid).values_list(*COLUMNS))
    try:
        [row] = rows
        document = document_of(row)
        shown = disclosures_of(document, leaf.commitments)
        text = leaf_text(document, leaf.commitments)
    except NOT_OURS:
        text = ""
    if leaf_hash(text.encode()) != as_bytes(leaf.hash):
        msg = "The event isn't what was sealed. Run manage.py audit_verify."
        raise ProofError(msg)
    proof = Tree(using).inclusion(leaf.index, checkpoint.size)
    if not is_included(as_bytes(leaf.hash), leaf.index, checkpoint.size, proof, as_bytes(checkpoint.root)):
        raise ProofError(_DAMAGED)
    return {
        "format": FORMAT,
        "leaf": text,
        "disclosures": shown,
        "index": leaf.index,
        "proof": _encoded(proof),
        "checkpoint": checkpoint.note,
        "keys": list(map(str, verifying_keys())),
    }


def _sealed(event: AuditEvent, using: str, size: int | None) -> tuple[AuditLeaf, AuditCheckpoint]:
    """Return the leaf of an event and the checkpoint that proves it; raise ProofError if one of them is missing."""
    leaf = AuditLeaf.objects.using(using).filter(event=event.uid).first()
    checkpoints = AuditCheckpoint.objects.using(using)
    checkpoint = checkpoints.filter(size=size).first() if size is not None else latest_checkpoint(using)
    if checkpoint is None and size is not None:
        msg = f"There is no checkpoint {size}."
        raise ProofError(msg)
    if leaf is None or checkpoint is None:
        msg = "The event is not sealed yet. Run manage.py audit_seal."
        raise ProofError(msg)
    if leaf.index >= checkpoint.size:
        msg = f"Checkpoint {checkpoint.size} is older than the event, which is leaf {leaf.index}."
        raise ProofError(msg)
    return leaf, checkpoint


def growth_of(using: str, old: int, size: int) -> dict[str, Any]:
    """Return all that proves a log to have only grown between two checkpoints."""
    found = AuditCheckpoint.objects.using(using).in_bulk([old, size])
    if len(found) != len({old, size}):
        msg = f"There is no checkpoint {old if old not in found else size}."
        raise ProofError(msg)
    proof = Tree(using).consistency(old, size)
    if not is_consistent(old, as_bytes(found[old].root), size, as_bytes(found[size].root), proof):
        raise ProofError(_DAMAGED)
    return {
        "format": FORMAT,
        "old_checkpoint": found[old].note,
        "proof": _encoded(proof),
        "checkpoint": found[size].note,
        "keys": list(map(str, verifying_keys())),
    }


def tlog_proof(bundle: dict[str, Any]) -> str:
    """Return an inclusion proof as C2SP's ``tlog-proof`` text."""
    lines = ["c2sp.org/tlog-proof@v1", f"index {bundle['index']}", *bundle["proof"], "", bundle["checkpoint"]]
    return "\n".join(lines)


def as_json(bundle: dict[str, Any]) -> str:
    """Return a bundle as text."""
    return json.dumps(bundle, ensure_ascii=False, indent=1)
