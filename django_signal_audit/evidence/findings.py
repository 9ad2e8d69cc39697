"""What a verification says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that differs from what was sealed.

    Attributes:
        kind: ``edited``, ``deleted``, ``leaf``, ``root``, ``checkpoint``, ``signature``, ``backdated``, ``postdated``,
            ``rewritten``, ``truncated``, ``prune`` or ``erased``.
        index: The number of the leaf, None where no single one is meant.
        event: The uid of the event, ``""`` where none is known.
        detail: What was found, in words.

    """

    kind: str
    index: int | None
    event: str
    detail: str


@dataclass
class Verdict:
    """What a verification found. ``unsealed`` events say nothing yet; ``is_late`` if they should have been sealed.

    ``is_unsigned`` if keys are known, but signed nothing, and no checkpoint that is kept elsewhere confirms the log.
    ``is_unconfirmed`` if there are such checkpoints, but all of them are older than the beginning that a prune left:
    someone with the key could have written a log with such a beginning.
    """

    findings: int = 0
    leaves: int = 0
    size: int = 0
    signed: int = 0
    checkpoints: int = 0
    anchored: int = 0
    pruned: int = 0
    erased: int = 0
    imported: int = 0
    # Records of prunes and erasures that are to be sealed within the interval.
    pending_records: int = 0
    unsealed: int = 0
    is_late: bool = False
    is_unsigned: bool = False
    is_unconfirmed: bool = False
