"""What is in progress on a connection: the save, deletion, m2m call or bulk call that a statement belongs to.

A WriteScope only holds state. The code that begins a save or a call sets it and resets it; the hook at the query
compilers and the recorder read it. Django doesn't share connections between threads, so the state isn't shared either.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar
from weakref import ref

from django.db import connections, models

from django_signal_audit.enums import Source
from django_signal_audit.rules.patterns import Field, concrete
from django_signal_audit.rules.plans import ModelPlan

if TYPE_CHECKING:
    from django_signal_audit.capture.engines import Engine
    from django_signal_audit.capture.images import RawImageReader
    from django_signal_audit.capture.sources.commands import Loading
    from django_signal_audit.capture.through_rows import M2MRelation
    from django_signal_audit.capture.transactions import write_transaction
    from django_signal_audit.delivery.pending import Pending
    from django_signal_audit.events.changes import Change

Row: TypeAlias = dict[str, Any]
Fields: TypeAlias = Mapping[str, Field]
# A row, by its model and primary key.
Identity: TypeAlias = tuple[type[models.Model], Any]
# (primary key of the owner, primary key of the related object)
ThroughRow: TypeAlias = tuple[Any, Any]


@dataclass(slots=True)
class BeforeImage:
    """What was found of one plan's row before the save: ``row`` is None if there was none."""

    plan: ModelPlan
    # None for a row that is certain to be inserted.
    pk: Any
    fields: Fields
    row: Row | None
    # Whether the row was read. It isn't before an insert that is certain, nor if no audited field is written.
    was_read: bool
    # Whether the instance certainly holds what was written.
    is_own: bool = True
    # Whether the row that is inserted may extend an existing row of a parent.
    may_extend: bool = False
    # What was found of the parents' rows, if they may be all that is updated because the child's row is gone.
    parts: Sequence[BeforeImage] | None = None
    is_part: bool = False
    # All columns of the row, if the save may change its links to parents' rows.
    image: tuple[Any, ...] | None = None


@dataclass(slots=True)
class SaveScope:
    """One run of ``save_base``."""

    instance: models.Model
    using: str
    raw: bool
    force_insert: bool
    force_update: bool
    # Set by on_pre_save: the plans that the save concerns, and the fields that it names. None with muted signals.
    plans: Sequence[ModelPlan] | None = None
    update_fields: Collection[str] | None = None
    may_create: bool = True
    # Whether other values than the instance's may be written, or more fields than the save names.
    writes_more: bool = False
    # None until the rows have been read, which is after the project's receivers of pre_save.
    before: Sequence[BeforeImage] | None = None
    # What had been recorded on the connection when the rows were read.
    count: int = 0
    # The model whose table is being written.
    writing: type[models.Model] | None = None
    # Whether the next UPDATE of that table is the save's own.
    is_updating: bool = False
    # What may write the row and its event in one, None if it goes the portable way; and the transaction for that way.
    engine: Engine | None = None
    transaction: write_transaction | None = None
    # What writes the events of the changes, None for the usual.
    record: Callable[[Sequence[Change], str], object] | None = None

    @property
    def is_prepared(self) -> bool:
        """Return whether its statement is recorded with it: an engine does so, or the rows have been read."""
        return self.before is not None or self.engine is not None


@dataclass(slots=True)
class DoomedObject:
    """What Django told of a row that is about to go, and the related objects that it loses first."""

    source: Source
    instance: models.Model | None = None
    object_repr: str | None = None
    members: dict[str, set[ThroughRow]] = field(default_factory=dict)


@dataclass(slots=True)
class DeletedBatch:
    """The rows of one model that are gone, and whose events have yet to be written."""

    reader: RawImageReader | None = None
    images: list[tuple[Any, ...]] = field(default_factory=list)
    # In bytes, approximately.
    size: int = 0


@dataclass(slots=True)
class DeletionScope:
    """One run of ``Collector.delete``."""

    collector: Any
    doomed: dict[Identity, DoomedObject] = field(default_factory=dict)
    # Parents' rows whose deletion is part of their child's event.
    covered: set[Identity] = field(default_factory=set)
    # Parents' rows that stay when the child's row goes.
    kept: set[Identity] = field(default_factory=set)
    # What is recorded together, of the rows of a model that Django deletes by a hundred; None between them.
    batch: DeletedBatch | None = None

    def source_of_update(self, fields: set[models.Field[object, object]]) -> Source:
        """Return whether an UPDATE is one of the deletion's own, such as SET_NULL."""
        own = {updated for updated, _ in self.collector.field_updates}
        return Source.CASCADE if fields <= own else Source.BULK

    def source_of_delete(self, model: type[models.Model]) -> Source:
        """Return how the deletion came to rows that it has no objects of: as its queryset, or along with that."""
        origin = self.collector.origin
        return Source.BULK if isinstance(origin, models.QuerySet) and are_kin(model, origin.model) else Source.CASCADE

    def takes(self, model: type[models.Model]) -> bool:
        """Return whether the deletion takes rows of this model too: ``keep_parents`` spares the parents'."""
        taken = (*self.collector.data, *(rows.model for rows in self.collector.fast_deletes))
        return any(one._meta.concrete_model is model for one in taken)

    def asked_for(self, model: type[models.Model]) -> bool:
        """Return whether the deletion was asked for on rows of this model itself."""
        origin = self.collector.origin
        return origin is not None and getattr(origin, "model", type(origin)) is model


def are_kin(one: type[models.Model], other: type[models.Model]) -> bool:
    """Return whether rows of one model may be rows of the other, or parts of them."""
    one, other = concrete(one), concrete(other)
    return issubclass(one, other) or issubclass(other, one)


@dataclass(frozen=True, slots=True)
class ThroughRowsChange:
    """Pairs that came and went by one statement or signal."""

    relation: M2MRelation
    using: str
    instance: models.Model | None = None
    added: frozenset[ThroughRow] = frozenset()
    removed: frozenset[ThroughRow] = frozenset()
    source: Source = Source.ORM


@dataclass(slots=True)
class ManagerCall:
    """One call of an m2m manager's method, and what it has done so far."""

    through: type[models.Model]
    instance: models.Model
    gathered: list[ThroughRowsChange] = field(default_factory=list)


@dataclass(slots=True)
class HeldBack:
    """The notifications of a call that records in several batches, which are written at its end."""

    # What a receiver of the project's records within a savepoint of its own may be rolled back, and is not the call's.
    savepoints: tuple[str, ...]
    pending: Pending


@dataclass(slots=True)
class WriteScope:
    """What is in progress on one connection."""

    save: SaveScope | None = None
    deletion: DeletionScope | None = None
    manager_call: ManagerCall | None = None
    held_back: HeldBack | None = None
    loading: Loading | None = None
    # How often something was recorded.
    recorded: int = 0

    @contextmanager
    def within(self, **noted: object) -> Iterator[None]:
        """Set some of the state during a block."""
        outer = {name: getattr(self, name) for name in noted}
        self._note(noted)
        try:
            yield
        finally:
            self._note(outer)

    def _note(self, noted: Mapping[str, object]) -> None:
        for name, value in noted.items():
            setattr(self, name, value)


def scope_of(using: str) -> WriteScope:
    """Return the state of this thread's connection to a database."""
    kept = vars(connections[using])
    scope: WriteScope | None = kept.get("audit_scope")
    if scope is None:
        scope = kept["audit_scope"] = WriteScope()
    return scope


def save_of(instance: models.Model, using: str) -> SaveScope | None:
    """Return the save of the instance that is under way; None if there is none, or another's within it."""
    save = scope_of(using).save
    return save if save is not None and save.instance is instance else None


T = TypeVar("T")


class Notes(Generic[T]):
    """One note per object, by identity. It goes with the object, if nobody takes it before.

    It isn't on the object: what is there is pickled, cached and copied along with it.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[ref[Any], T]] = {}

    def put(self, about: object, note: T) -> None:
        """Keep a note in place of the one that is there."""
        key = id(about)
        self._kept[key] = ref(about, lambda _: self._kept.pop(key, None) and None), note

    def take(self, about: object) -> T | None:
        """Return the note about an object and forget it; None if there is none."""
        found = self._kept.pop(id(about), None)
        return None if found is None else found[1]
