"""The tables of the evidence: leaves of a Merkle tree over the events, its checkpoints, and what explains gaps."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .events import utc_now
from .fields import AnyDateTimeField, AnyJSONField, AnyUUIDField, Moment, ReadableQuerySet


class AuditLeaf(models.Model):
    """One sealed event: its place in the tree, and the hash of what it said when it was sealed.

    Only inserted. Erasing a person's data replaces salts in ``commitments`` by digests, and pruning drops the leaves
    before a checkpoint that no event is left of.
    """

    index = models.BigIntegerField(primary_key=True)
    # By uid and without a constraint: an event's deletion must leave the leaf, which is what proves it.
    event = AnyUUIDField(unique=True)
    hash = models.BinaryField(max_length=32)
    # Path of each personal value to its salt, or to its digest once the value is erased.
    commitments = AnyJSONField(default=dict)

    objects: models.Manager[AuditLeaf] = ReadableQuerySet.as_manager()

    class Meta:
        verbose_name = _("sealed event")
        verbose_name_plural = _("sealed events")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.index}: {self.event}"


class AuditCheckpoint(models.Model):
    """The tree at one size: what is signed, published, and compared with what others hold."""

    size = models.BigIntegerField(primary_key=True)
    root = models.BinaryField(max_length=32)
    # The roots of the full subtrees that make up the tree, from left to right: they go on where the leaves are pruned.
    stack = models.BinaryField()
    note = models.TextField()
    sealed_at: Moment = AnyDateTimeField(_("sealed at"), default=utc_now)
    leaf_format = models.PositiveSmallIntegerField()
    # Below what id, and above what id, the sealer still has to look for events.
    horizon = AnyJSONField(default=dict)

    objects: models.Manager[AuditCheckpoint] = ReadableQuerySet.as_manager()

    class Meta:
        verbose_name = _("checkpoint")
        verbose_name_plural = _("checkpoints")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.size}: {bytes(self.root).hex()}"


class AuditReceipt(models.Model):
    """Notes that an anchor took a checkpoint; an event says the same."""

    size = models.BigIntegerField(_("size"))
    anchor = models.CharField(_("anchor"), max_length=100)
    anchored_at: Moment = AnyDateTimeField(_("anchored at"), default=utc_now)
    receipt = models.TextField(_("receipt"), blank=True)

    class Meta:
        verbose_name = _("anchor receipt")
        verbose_name_plural = _("anchor receipts")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["anchor", "size"], name="dsa_receipt")]

    def __str__(self) -> str:
        return f"{self.anchor}: {self.size}"


class AuditPrune(models.Model):
    """Which leaves lost their events to one prune, and which starting points it left.

    The event that records the prune has the hashes of ``ranges`` and ``starts``.
    """

    event = AnyUUIDField(unique=True)
    ranges = models.TextField()
    starts = models.TextField(default="[]")

    class Meta:
        verbose_name = _("pruned range")
        verbose_name_plural = _("pruned ranges")
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.event)


EVIDENCE_MODELS = (AuditLeaf, AuditCheckpoint, AuditReceipt, AuditPrune)

__all__ = ["EVIDENCE_MODELS", "AuditCheckpoint", "AuditLeaf", "AuditPrune", "AuditReceipt"]
