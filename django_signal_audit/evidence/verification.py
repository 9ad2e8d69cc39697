"""Verifying: reads the log as it is now, and names whatever differs from what was sealed."""

from __future__ import annotations

import datetime as dt
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from django.db.models import Max, Min, Q

from django_signal_audit.delivery.watch import can_share
from django_signal_audit.evidence.config import get_evidence, verifying_keys
from django_signal_audit.evidence.findings import Finding, Verdict
from django_signal_audit.evidence.leaf import FORMAT, hyphenated
from django_signal_audit.evidence.notes import Checkpoint, NoteError, PublicKey, signers_of, split_note, time_lines
from django_signal_audit.evidence.processes import start_pool
from django_signal_audit.evidence.reading import IMPORT, PAGE, Checked, Leaves, Piece, Ranges, Run, checked
from django_signal_audit.evidence.records import Record, covered, erasures, prunes, recorded_starts
from django_signal_audit.evidence.sealing import RECEIPT_EVENT, iso_text, latest_checkpoint, unsealed
from django_signal_audit.evidence.tree import EMPTY_ROOT, MAX_SIZE, Stack, as_bytes
from django_signal_audit.models import AuditCheckpoint, AuditEvent, AuditLeaf
from django_signal_audit.models.events import utc_now

# Transactions and clocks may be so far apart from the sealer's: an event that is older was written afterwards.
TOLERANCE = dt.timedelta(days=1)
# Of leaves that are gone one after the other, so many are named one by one.
_MOST_LOST = 1000
# Sources of events that may be of long ago: those of the starting points that a prune leaves, too.
_EARLIER = (IMPORT, "baseline")


@dataclass
class _State:
    """What the pass knows as it goes. Times are texts of ISO 8601, which sort as the times do."""

    stack: Stack
    is_broken: bool = False
    missing: Ranges = field(default_factory=Ranges)
    # The number of the leaf and the paths of the values, by the uid of the event.
    erased: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    sealed_at: dt.datetime | None = None
    # The youngest event so far, and what events may not be younger and not older than.
    newest: str = ""
    sealed: str = ""
    ceiling: str = ""
    floor: str = ""

    def begin(self, checkpoint: AuditCheckpoint) -> None:
        """Note between which times the events of a checkpoint must be.

        What earlier searches of the sealer have found is younger than an event that was there already, give or take
        a long transaction. Within one search events come by id, and an old log may have been kept by a wrong clock.
        """
        sealed_at = _utc(checkpoint.sealed_at)
        # A clock that was ahead must not make all that follows look old.
        self.sealed, self.ceiling = iso_text(sealed_at), iso_text(sealed_at + TOLERANCE)
        if self.newest and _began(checkpoint, self.stack.size) >= self.stack.size:
            self.floor = iso_text(dt.datetime.fromisoformat(self.newest) - TOLERANCE)


class Verifier:
    """Compares a database with its leaves, its checkpoints, and the checkpoints that others hold.

    Args:
        using: The database.
        held: The notes of checkpoints that are known from elsewhere.
        keys: The keys that may have signed; those of the settings if None.
        since: Verify only what came after this checkpoint, which is trusted.
        was_signed: Whether that one is signed by one of the keys: then all that came after have to be.
        on_leaves: Is told how many leaves have been read.
        jobs: How many processes check events.

    """

    def __init__(
        self,
        using: str,
        *,
        held: Sequence[str] = (),
        keys: Sequence[PublicKey] | None = None,
        since: Checkpoint | None = None,
        was_signed: bool = False,
        on_leaves: Callable[[int], object] = lambda _n: None,
        jobs: int = 1,
    ) -> None:
        self._using, self._since, self._on_leaves, self._jobs = using, since, on_leaves, jobs
        self._keys = list(verifying_keys() if keys is None else keys)
        self._held = sorted(self._parsed(held), key=lambda item: item.size)
        # From which size on others hold signed checkpoints: whoever takes the signatures out of ours can't hide that.
        signed = [size for note in held if (size := self._signed_size(note)) is not None]
        self._signed_from = min([*signed, *([since.size] if since and was_signed else [])], default=MAX_SIZE + 1)
        self.verdict = Verdict()
        # The starting points of the prune that was asked for last.
        self._starts: tuple[str, frozenset[str]] = ("", frozenset())

    def _parsed(self, notes: Sequence[str]) -> Iterator[Checkpoint]:
        for note in notes:
            yield Checkpoint.of(split_note(note)[0])

    def _signed_size(self, note: str) -> int | None:
        """Return the size of a checkpoint that one of the keys signed, None for another one."""
        if not self._keys:
            return None
        try:
            checkpoint, signers = signers_of(note, self._keys)
        except NoteError as error:
            msg = f"A checkpoint that was kept elsewhere is damaged: {error}"
            raise NoteError(msg) from error
        return checkpoint.size if signers else None

    def count(self) -> int:
        """Return how many leaves there are to read."""
        ends = AuditLeaf.objects.using(self._using).aggregate(first=Min("index"), last=Max("index"))
        first = max(ends["first"] or 0, self._since.size if self._since else 0)
        return 0 if ends["last"] is None else ends["last"] + 1 - first

    def findings(self) -> Iterator[Finding]:
        """Yield what differs, as it is found."""
        yield from self._counted(self._findings())

    def _findings(self) -> Iterator[Finding]:
        state = _State(Stack())
        yield from self._begin(state)
        yield from self._held_before(state.stack.size)
        held = deque(item for item in self._held if item.size >= state.stack.size)
        # The beginning that a prune left, or where the auditor begins, is a checkpoint too.
        yield from self._compare_held(state, held)
        pool = start_pool(self._jobs, self._using) if self._jobs > 1 and can_share(self._using) else None
        with pool or nullcontext():
            leaves = Leaves(self._using, state.stack.size, self._on_leaves, pool)
            for page in self._checkpoints(state.stack.size):
                # Sealers may be at work: what is read beyond the known checkpoints may be half of a batch.
                leaves.end = page[-1].size
                for checkpoint in page:
                    yield from self._batch(state, checkpoint, leaves, held)
        yield from self._after(state)
        yield from self._held_beyond(held, state.stack.size)
        yield from self._gaps(state)
        yield from self._erased(state)
        self._count_unsealed()
        self._look_for_a_signature()

    # The beginning: the empty tree, what pruning left of a prefix, or the auditor's checkpoint.

    def _begin(self, state: _State) -> Iterator[Finding]:
        # In this order: what is sealed for the first time in between must not look like a log whose leaves are gone.
        newest = latest_checkpoint(self._using)
        first = AuditLeaf.objects.using(self._using).aggregate(first=Min("index"))["first"]
        start = self._since.size if self._since else first if first is not None else newest.size if newest else 0
        if not start:
            return
        checkpoint = AuditCheckpoint.objects.using(self._using).filter(size=start).first()
        if checkpoint is None:
            detail = f"The log begins after leaf {start}, and no checkpoint has that size."
            yield Finding("truncated" if self._since else "deleted", 0, "", detail)
            return
        found = _stack_of(checkpoint)
        root = self._since.root if self._since else as_bytes(checkpoint.root)
        if found is None or found.root() != root:
            kind = "rewritten" if self._since else "checkpoint"
            yield Finding(kind, start, "", f"Checkpoint {start} isn't what it was.")
        state.stack = found or Stack()
        self._resume(state, checkpoint)
        if not self._since:
            yield from self._note(checkpoint)
            state.missing.add(0, start)

    def _resume(self, state: _State, checkpoint: AuditCheckpoint) -> None:
        """Note the times of what was sealed up to a checkpoint, as if all of it had been read."""
        state.sealed_at = _utc(checkpoint.sealed_at)
        # As in a batch: a clock that was ahead must not make all that follows look old.
        state.newest = min(self._newest_before(checkpoint.size), iso_text(state.sealed_at))

    def _newest_before(self, index: int) -> str:
        """Return the time of the youngest of the last events that earlier searches than that of a leaf found."""
        checkpoint = AuditCheckpoint.objects.using(self._using).filter(size__gt=index).order_by("size").first()
        began = _began(checkpoint, index) if checkpoint else index
        leaves = AuditLeaf.objects.using(self._using).filter(index__gte=began - PAGE, index__lt=began)
        events = (
            AuditEvent.of_all_tenants.using(self._using).filter(uid__in=leaves.values("event")).exclude(source=IMPORT)
        )
        latest = events.aggregate(latest=Max("recorded_at"))["latest"]
        return "" if latest is None else iso_text(_utc(latest))

    def _checkpoints(self, after: int) -> Iterator[list[AuditCheckpoint]]:
        rows = AuditCheckpoint.objects.using(self._using).order_by("size")
        page = list(rows.filter(size__gt=after)[:500])
        while page:
            yield page
            page = list(rows.filter(size__gt=page[-1].size)[:500])

    # One checkpoint and the leaves that it added.

    def _batch(
        self, state: _State, checkpoint: AuditCheckpoint, leaves: Leaves, held: deque[Checkpoint]
    ) -> Iterator[Finding]:
        self.verdict.checkpoints += 1
        start = state.stack.size
        yield from self._note(checkpoint)
        yield from self._clock(state, checkpoint)
        if (began := _said_began(checkpoint, start)) > start:
            # Without it, nobody could tell which events were there when those that it added were sealed.
            detail = f"Checkpoint {began} was deleted: checkpoint {checkpoint.size} was sealed after it."
            yield Finding("checkpoint", began, "", detail)
        state.begin(checkpoint)
        # What others hold is compared at its size, which may lie between two checkpoints.
        inside = [item.size for item in takewhile(lambda item: item.size < checkpoint.size, held)]
        for stop in [*inside, checkpoint.size]:
            for piece in leaves.before(stop):
                yield from self._piece(state, piece)
                yield from self._compare_held(state, held)
        yield from self._lost(state, checkpoint.size)
        yield from self._root(state, checkpoint, start)
        state.sealed_at = _utc(checkpoint.sealed_at)
        self.verdict.size = checkpoint.size

    def _lost(self, state: _State, end: int) -> Iterator[Finding]:
        """Yield which leaves before a number are gone: of very many, those at the beginning, and how many there are."""
        start = state.stack.size
        if start >= end:
            return
        for number in range(start, min(end, start + _MOST_LOST)):
            yield Finding("leaf", number, "", "The leaf is gone: an event and its leaf were deleted.")
        if end > start + _MOST_LOST:
            first = start + _MOST_LOST
            detail = f"The leaves {first} to {end - 1} are gone: their events and they were deleted."
            yield Finding("leaf", first, "", detail)
        # Their hashes are unknown; the tree goes on from the checkpoint's own subtrees.
        state.stack = Stack(end, [EMPTY_ROOT] * end.bit_count())
        state.is_broken = True

    def _note(self, checkpoint: AuditCheckpoint) -> Iterator[Finding]:
        at = checkpoint.size
        try:
            if self._keys:
                said, signers = signers_of(checkpoint.note, self._keys)
            else:
                said, signers = Checkpoint.of(split_note(checkpoint.note)[0]), []
        except NoteError as error:
            yield Finding("signature", at, "", f"Checkpoint {at}: {error}")
            return
        self.verdict.signed += bool(signers)
        origin = get_evidence().origin_of(self._using)
        # Early versions sealed without these lines, and their checkpoints verify forever.
        times = time_lines(iso_text(checkpoint.sealed_at), _began(checkpoint, at)) if said.lines else ()
        if said != Checkpoint(origin, at, as_bytes(checkpoint.root), times):
            detail = f"Checkpoint {at} and its note differ."
            if said.origin != origin:
                detail = f"Checkpoint {at} is of another log: its origin is {said.origin}, and this one's is {origin}."
            yield Finding("checkpoint", at, "", detail)
        elif self._keys and not signers and (self.verdict.signed or at >= self._signed_from):
            yield Finding("signature", at, "", f"Checkpoint {at} isn't signed by a known key, earlier ones are.")

    def _clock(self, state: _State, checkpoint: AuditCheckpoint) -> Iterator[Finding]:
        if state.sealed_at is not None and _utc(checkpoint.sealed_at) < state.sealed_at - TOLERANCE:
            detail = f"Checkpoint {checkpoint.size} claims to be older than the one before it."
            yield Finding("checkpoint", checkpoint.size, "", detail)
        if checkpoint.leaf_format != FORMAT:
            detail = f"Checkpoint {checkpoint.size} has leaf format {checkpoint.leaf_format}, which isn't known."
            yield Finding("checkpoint", checkpoint.size, "", detail)

    def _piece(self, state: _State, piece: Piece) -> Iterator[Finding]:
        yield from self._lost(state, piece.number)
        if isinstance(piece, Run):
            self.verdict.leaves += len(piece.moments)
            state.stack.extend(piece.hashes)
            yield from self._run(state, piece)
        else:
            self.verdict.leaves += 1
            state.stack.append(piece.hash)
            if self._leaf(state, piece):
                yield from self._again(state, piece.number)

    def _run(self, state: _State, run: Run) -> Iterator[Finding]:
        """Yield which events of a run have a time that they can't have. Hardly ever any has, and that is quick."""
        if run.are_imports:
            self.verdict.imported += len(run.moments)
        elif state.floor <= min(run.moments) and max(run.moments) <= state.ceiling:
            state.newest = max(state.newest, min(max(run.moments), state.sealed))
        else:
            for number, moment in enumerate(run.moments, run.number):
                if state.floor <= moment <= state.ceiling:
                    state.newest = max(state.newest, min(moment, state.sealed))
                else:
                    yield from self._again(state, number)

    def _again(self, state: _State, number: int) -> Iterator[Finding]:
        """Yield what is wrong with an event: an erasure changes one and its leaf, perhaps between our two reads."""
        for leaf in checked(self._using, number, number + 1):
            yield from self._leaf(state, leaf)

    def _leaf(self, state: _State, leaf: Checked) -> list[Finding]:
        """Return what is wrong with an event."""
        index, uid, _hash, event, wrong, moment, is_import, erased = leaf
        if event is None:
            state.missing.add(index, index + 1)
            return []
        if erased:
            state.erased[hyphenated(uid)] = index, erased
        if wrong:
            return [Finding("edited", index, hyphenated(uid), wrong)]
        if is_import:
            self.verdict.imported += 1
        elif state.floor <= moment <= state.ceiling:
            state.newest = max(state.newest, min(moment, state.sealed))
        else:
            return self._misdated(leaf, is_late=moment > state.ceiling)
        return []

    def _misdated(self, leaf: Checked, *, is_late: bool) -> list[Finding]:
        """Return what is wrong with the time of an event, nothing if it took the place of older ones."""
        moment = leaf.moment[:16].replace("T", " ")
        what = f"Event {leaf.event} claims to be of {moment or 'no time'}"
        uid = hyphenated(leaf.uid)
        if is_late:
            return [Finding("postdated", leaf.number, uid, f"{what}, after it was sealed.")]
        if self._is_recorded_start(uid):
            return []
        detail = f"{what}; later ones were sealed before it was there."
        return [Finding("backdated", leaf.number, uid, detail)]

    def _is_recorded_start(self, uid: str) -> bool:
        """Return whether a recorded prune left an event in the place of those that it took, and so with their time."""
        data = AuditEvent.of_all_tenants.using(self._using).filter(uid=uid).values_list("data", flat=True).first()
        prune = data.get("prune") if isinstance(data, dict) else None
        if prune is None:
            return False
        if self._starts[0] != prune:
            self._starts = (str(prune), recorded_starts(str(prune), self._using))
        return uid.replace("-", "") in self._starts[1]

    def _root(self, state: _State, checkpoint: AuditCheckpoint, start: int) -> Iterator[Finding]:
        own = _stack_of(checkpoint)
        root = as_bytes(checkpoint.root)
        if own is None or own.root() != root:
            yield Finding("checkpoint", checkpoint.size, "", f"The subtrees of checkpoint {checkpoint.size} changed.")
            own = None
        if state.stack.root() != root and not state.is_broken:
            detail = f"The leaves {start} to {checkpoint.size - 1} don't give the root of checkpoint {checkpoint.size}."
            yield Finding("root", checkpoint.size, "", detail)
        # Whatever is wrong in this batch is named once, and does not hide what is wrong after it.
        if own is not None:
            state.stack, state.is_broken = own, False

    # What others hold.

    def _compare_held(self, state: _State, held: deque[Checkpoint]) -> Iterator[Finding]:
        while held and held[0].size <= state.stack.size:
            item = held.popleft()
            if item.size == state.stack.size and item.root == state.stack.root():
                self.verdict.anchored += 1
            else:
                yield _rewritten(item)

    def _held_before(self, start: int) -> Iterator[Finding]:
        """Compare checkpoints that are older than what a prune left with those of the same size: no leaves are left."""
        older = [item for item in self._held if item.size < start]
        if older and not self._since:
            yield from self._held_by_size(older)
            self.verdict.is_unconfirmed = len(older) == len(self._held)

    def _held_by_size(self, held: Sequence[Checkpoint]) -> Iterator[Finding]:
        """Compare checkpoints with what the log has of the same size, whatever its leaves say."""
        own = AuditCheckpoint.objects.using(self._using).in_bulk([item.size for item in held])
        for item in held:
            found = own.get(item.size)
            if found is None or as_bytes(found.root) != item.root:
                yield _rewritten(item)

    def _held_beyond(self, held: Iterable[Checkpoint], size: int) -> Iterator[Finding]:
        for item in held:
            if item.size > size:
                leaves = f"{item.size} {'leaf' if item.size == 1 else 'leaves'}"
                detail = f"A checkpoint of {leaves} was published, and the log has {size}."
                yield Finding("truncated", item.size, "", detail)

    # What came after the last checkpoint, and what is missing.

    def _after(self, state: _State) -> Iterator[Finding]:
        rows = AuditLeaf.objects.using(self._using).filter(index__gte=state.stack.size).order_by("index")
        for index, event in rows.values_list("index", "event").iterator(chunk_size=PAGE):
            newest = latest_checkpoint(self._using)
            if newest is None or index >= newest.size:
                yield Finding("truncated", index, str(event), "The leaf has no checkpoint: a checkpoint was deleted.")

    def _gaps(self, state: _State) -> Iterator[Finding]:
        explained: list[tuple[int, int]] = []
        for record in prunes(self._using):
            if wrong := self._wrong(record, "prune"):
                yield wrong
            else:
                explained += record.ranges
        starts, ends = covered(explained)
        for start, end in state.missing:
            at = bisect_right(starts, start) - 1
            while start < end:
                if at >= 0 and start < ends[at]:
                    stop = min(end, ends[at])
                    self.verdict.pruned += stop - start
                else:
                    stop = min(end, starts[at + 1]) if at + 1 < len(starts) else end
                    yield from self._deleted(start, stop)
                    at += 1
                start = stop

    def _erased(self, state: _State) -> Iterator[Finding]:
        self.verdict.erased = len(state.erased)
        unexplained = {uid: (index, set(paths)) for uid, (index, paths) in state.erased.items()}
        for record in erasures(self._using):
            if wrong := self._wrong(record, "erased"):
                # What nothing sealed depends on is late like any event, as where nothing was ever sealed.
                if not record.is_true or not unexplained.keys().isdisjoint(record.erased):
                    yield wrong
            else:
                for uid, paths in record.erased.items():
                    if uid in unexplained:
                        left = unexplained[uid][1]
                        left -= left if paths is None else paths
        for uid, (index, left) in unexplained.items():
            if left:
                detail = f"Personal values were taken out, and no event records that: {', '.join(sorted(left))}."
                yield Finding("erased", index, uid, detail)

    def _wrong(self, record: Record, kind: str) -> Finding | None:
        """Return why a record explains nothing, None if it does."""
        if not record.is_true:
            return Finding(kind, None, record.event, "The record isn't what its event says.")
        if record.is_sealed:
            return None
        if record.is_pending:
            self.verdict.pending_records += 1
            return None
        return Finding(kind, None, record.event, "The event that records this isn't sealed, or not as it is now.")

    def _deleted(self, start: int, stop: int) -> Iterator[Finding]:
        leaves = AuditLeaf.objects.using(self._using).filter(index__gte=start, index__lt=stop).order_by("index")
        known = 0
        for index, event in leaves.values_list("index", "event").iterator(chunk_size=PAGE):
            known += 1
            yield Finding("deleted", index, str(event), "The event is gone, and no event records a prune.")
        if not known:
            yield Finding("deleted", start, "", f"The events {start} to {stop - 1} are gone, and no prune is recorded.")

    def _count_unsealed(self) -> None:
        waiting = unsealed(self._using).exclude(event_type=RECEIPT_EVENT)
        self.verdict.unsealed = waiting.count()
        if self.verdict.unsealed:
            self.verdict.is_late = is_late(self._using, waiting)

    def _look_for_a_signature(self) -> None:
        """Note if no checkpoint is signed although keys are known: the key is new, or all of history was rewritten."""
        newest = latest_checkpoint(self._using)
        if newest is None or not self._keys or self.verdict.signed or self.verdict.anchored:
            return
        try:
            self.verdict.is_unsigned = not signers_of(newest.note, self._keys)[1]
        except NoteError:
            self.verdict.is_unsigned = True

    def sample(self, number: int) -> Iterator[Finding]:
        """Yield what differs in so many leaves at random places, and in the checkpoints that added them."""
        yield from self._counted(self._sample(number))

    def _sample(self, number: int) -> Iterator[Finding]:
        newest = latest_checkpoint(self._using)
        ends = AuditLeaf.objects.using(self._using).aggregate(first=Min("index"), end=Max("index") + 1)
        # The leaves at the end may be gone, and their checkpoint be left.
        first, end = ends["first"] or 0, max(ends["end"] or 0, newest.size if newest else 0)
        chosen = random.SystemRandom()
        state = _State(Stack())
        checkpoints = AuditCheckpoint.objects.using(self._using)
        done = -1
        for place in sorted({chosen.randrange(first, end) for _ in range(number)} if end else ()):
            if place < done:
                continue
            checkpoint = checkpoints.filter(size__gt=place).order_by("size").first()
            if checkpoint is None:
                yield Finding("truncated", place, "", "The leaf has no checkpoint: a checkpoint was deleted.")
                break
            done = checkpoint.size
            yield from self._sampled(state, checkpoint, place)
        yield from self._gaps(state)
        yield from self._sampled_held()
        self._look_for_a_signature()

    def _sampled_held(self) -> Iterator[Finding]:
        """Compare what others hold with the checkpoints of the log, whose leaves are not all read."""
        newest = latest_checkpoint(self._using)
        size = newest.size if newest else 0
        held = [item for item in self._held if item.size]
        wrong = list(self._held_by_size([item for item in held if item.size <= size]))
        yield from wrong
        yield from self._held_beyond(held, size)
        self.verdict.anchored = sum(item.size <= size for item in held) - len(wrong)

    def _sampled(self, state: _State, checkpoint: AuditCheckpoint, place: int) -> Iterator[Finding]:
        smaller = AuditCheckpoint.objects.using(self._using).filter(size__lte=place)
        before = smaller.order_by("-size").first()
        state.stack = (_stack_of(before) or Stack()) if before else Stack()
        start = state.stack.size
        state.sealed_at, state.newest, state.floor = None, "", ""
        if before is not None:
            self._resume(state, before)
        leaves = Leaves(self._using, start, self._on_leaves)
        leaves.end = checkpoint.size
        yield from self._batch(state, checkpoint, leaves, deque())

    def _counted(self, findings: Iterator[Finding]) -> Iterator[Finding]:
        for finding in findings:
            self.verdict.findings += 1
            yield finding


def _rewritten(held: Checkpoint) -> Finding:
    return Finding("rewritten", held.size, "", f"History before leaf {held.size} isn't what was published.")


def _began(checkpoint: AuditCheckpoint, start: int) -> int:
    """Return the size of the tree when the sealer began the search that found the events of a checkpoint."""
    return min(_said_began(checkpoint, start), start)


def _said_began(checkpoint: AuditCheckpoint, otherwise: int) -> int:
    """Return what a checkpoint says of that; those of early versions say nothing."""
    began = checkpoint.horizon.get("began") if isinstance(checkpoint.horizon, dict) else None
    return began if isinstance(began, int) else otherwise


def _stack_of(checkpoint: AuditCheckpoint) -> Stack | None:
    try:
        return Stack.unpacked(checkpoint.size, as_bytes(checkpoint.stack))
    except ValueError:
        return None


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment.replace(tzinfo=dt.UTC)


def is_late(using: str, waiting: Any) -> bool:
    """Return whether unsealed events should have been sealed by now.

    Imported events and starting points have times of long ago: they are late once the last checkpoint is.
    """
    now = utc_now()
    limit = now - get_evidence().interval
    # Times of the future don't pass, and clocks differ.
    is_over = Q(recorded_at__lt=limit) | Q(recorded_at__gt=now + TOLERANCE)
    if waiting.exclude(source__in=_EARLIER).filter(is_over).exists():
        return True
    newest = latest_checkpoint(using)
    is_idle = newest is not None and newest.sealed_at < limit
    return is_idle and waiting.filter(source__in=_EARLIER).exists()
