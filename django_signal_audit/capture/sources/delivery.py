"""Events of the delivery itself: a channel begins to be suspended because it fails, and sends again."""

from __future__ import annotations

from django_signal_audit.capture.sources.base import CaptureSource, register_source
from django_signal_audit.context.scopes import AuditContext, current_context, replaced_context
from django_signal_audit.enums import Level, Source
from django_signal_audit.events.changes import Change
from django_signal_audit.models import ChannelState
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.registry import Registry
from django_signal_audit.signals import channel_failing, channel_recovered

UID = "django_signal_audit.delivery"


def record_failing(state: ChannelState, using: str, **_: object) -> None:
    """Record that a channel is suspended (receiver of channel_failing)."""
    until = state.until.isoformat() if state.until else None
    # Everybody who may view events reads it, and the whole error quotes a message.
    data = {"channel": state.channel, "failures": state.failures, "until": until, "error": state.error_kind}
    _record("channel_failing", data, Level.WARNING, using)


def record_recovered(state: ChannelState, using: str, **_: object) -> None:
    """Record that a channel sends again (receiver of channel_recovered)."""
    since = state.since.isoformat() if state.since else None
    data = {"channel": state.channel, "failures": state.failures, "since": since}
    _record("channel_recovered", data, Level.INFO, using)


def _record(event_type: str, data: dict[str, object], level: Level, using: str) -> None:
    change = Change(event_type=event_type, source=Source.MANUAL, using=using, data=data, level=level.value)
    # Whoever's request happened to send has nothing to do with it.
    outer = current_context()
    with replaced_context(AuditContext(command=outer.command, task=outer.task)):
        record_changes([change], using)


@register_source
class DeliverySource(CaptureSource):
    """Connects the signals of the delivery: these events are recorded even without a rule, like all custom ones."""

    def connect(self, registry: Registry) -> None:
        """Connect them."""
        channel_failing.connect(record_failing, dispatch_uid=UID)
        channel_recovered.connect(record_recovered, dispatch_uid=UID)

    def disconnect(self) -> None:
        """Disconnect them."""
        channel_failing.disconnect(dispatch_uid=UID)
        channel_recovered.disconnect(dispatch_uid=UID)
