"""The page of the channels: which of them fail and are suspended, and which somebody has paused."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from django_signal_audit.admin.access import access_of
from django_signal_audit.admin.base import ReadOnlyAdmin, crumbs_to_list, render_page
from django_signal_audit.conf import get_settings
from django_signal_audit.delivery.breakers import set_paused
from django_signal_audit.enums import Level, Source
from django_signal_audit.events.changes import Change
from django_signal_audit.models import ChannelState
from django_signal_audit.recorder import record_changes

TEMPLATE = "admin/django_signal_audit/notification/channels.html"
NAME = "django_signal_audit_notification_channels"


@dataclass(frozen=True, slots=True)
class Row:
    """A channel on the page."""

    alias: str
    state: ChannelState
    # May the user read all of the error? It quotes a message, which may be about anything.
    is_open: bool

    @property
    def is_failing(self) -> bool:
        """Return whether it is suspended because it fails."""
        return self.state.until is not None

    @property
    def error(self) -> str:
        """Return the last error as far as the user may read it: at least what kind of error it is."""
        if not self.state.failures:
            return ""
        return str(self.state.last_error) if self.is_open else self.state.error_kind


def troubled(using: str) -> list[str]:
    """Return the channels that do not send at the moment."""
    states = ChannelState.objects.using(using).order_by("channel")
    return [state.channel for state in states if state.until is not None or state.paused_at is not None]


def channels_page(model_admin: ReadOnlyAdmin, request: HttpRequest, *, using: str, may_pause: bool) -> HttpResponse:
    """Show the channels, and pause or resume the one that the form names."""
    if not model_admin.has_view_permission(request) or (request.method == "POST" and not may_pause):
        raise PermissionDenied
    states = {state.channel: state for state in ChannelState.objects.using(using)}
    names = sorted({*get_settings().channels, *states})
    if request.method == "POST":
        alias, is_paused = request.POST.get("channel", ""), request.POST.get("action") == "pause"
        if alias in names:
            _pause(request, alias, using, is_paused=is_paused)
        return HttpResponseRedirect(reverse(f"admin:{NAME}", current_app=model_admin.admin_site.name))
    is_open = access_of(request, model_admin.admin_site).sees_everything
    rows = [Row(alias, states.get(alias) or ChannelState(channel=alias), is_open) for alias in names]
    context = {"title": _("Channels"), "rows": rows, "may_pause": may_pause}
    return render_page(model_admin, request, TEMPLATE, context, crumbs=crumbs_to_list(model_admin))


def _pause(request: HttpRequest, alias: str, using: str, *, is_paused: bool) -> None:
    with transaction.atomic(using=using):
        if not set_paused(using, alias, is_paused=is_paused):
            return
        change = Change(
            event_type="channel_paused" if is_paused else "channel_resumed",
            source=Source.MANUAL,
            using=using,
            data={"channel": alias},
            actor=request.user,
            level=Level.WARNING.value,
        )
        record_changes([change], using)
    text = _("The channel “%(channel)s” is paused.") if is_paused else _("The channel “%(channel)s” sends again.")
    messages.success(request, text % {"channel": alias})
