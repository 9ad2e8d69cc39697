"""Who looked: an event each time somebody is shown an object whose rules ask for it, at most one in a while."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable
from typing import Any

from django.db import models, router, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.generic.base import TemplateResponseMixin

from django_signal_audit.capture.rows import row_key
from django_signal_audit.conf import get_settings
from django_signal_audit.context.actors import resolve_actor, resolve_impersonator
from django_signal_audit.context.scopes import is_suspended
from django_signal_audit.context.tenants import events_of_writer
from django_signal_audit.enums import EventType, Source
from django_signal_audit.events.changes import Change
from django_signal_audit.events.keys import object_id, row_name
from django_signal_audit.events.project_code import own_queries_anywhere
from django_signal_audit.models.events import utc_now
from django_signal_audit.models.tables import is_ready
from django_signal_audit.recorder import record_changes
from django_signal_audit.rules.durations import parse_duration
from django_signal_audit.rules.plans import ModelPlan
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.rules.schema import Rule

logger = logging.getLogger("django_signal_audit")

# How long the same user's looking at the same object is one event.
DEFAULT_WINDOW = "1h"
# The pages of the admin that show an object, by the end of their URL's name.
_PAGES = ("change", "history", "delete")


def record_view(obj: models.Model) -> bool:
    """Record that the user of the request looked at an object, and return whether an event was written.

    There is none if no rule asks for it, or if the user has looked at the object within the window of the rules. What
    goes wrong is logged: nobody is kept from looking.
    """
    try:
        with own_queries_anywhere():
            # A lazy object such as ``request.user`` has the class of what it stands for.
            recorded = [_record(obj, plan) for plan in _plans(obj.__class__)]
    except Exception:
        logger.exception("That %s was viewed could not be recorded.", type(obj).__qualname__)
        return False
    return any(recorded)


def watches_views() -> bool:
    """Return whether any rule asks for views."""
    return get_settings().enabled and any(plan.by_event[EventType.VIEW] for plan in get_registry().plans.values())


def record_views(request: HttpRequest, response: HttpResponseBase) -> None:
    """Record which object a page of the admin, or a retrieve of REST framework, has shown; it fails nobody."""
    if request.method != "GET" or response.status_code != 200:
        return
    try:
        with own_queries_anywhere():
            shown = _shown(request, response)
    except Exception:
        logger.exception("Which object was viewed at %s could not be determined.", request.path)
        return
    if shown is not None:
        record_view(shown)


class AuditedDetailMixin:
    """Records who looked, for views such as ``DetailView`` and ``UpdateView``; name it before them."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a view whose own method would be called in place of ours: nobody would be recorded."""
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if TemplateResponseMixin in order and order.index(TemplateResponseMixin) < order.index(AuditedDetailMixin):
            msg = (
                f"Name AuditedDetailMixin first among the base classes of {cls.__name__}: behind them, it does nothing."
            )
            raise TypeError(msg)

    def render_to_response(self, context: dict[str, Any], **response_kwargs: object) -> Any:
        """Return the response, and record that its object is shown."""
        response = super().render_to_response(context, **response_kwargs)  # type: ignore[misc]
        shown: object = getattr(self, "object", None)
        if isinstance(shown, models.Model) and getattr(self, "request").method == "GET":  # noqa: B009  # a view's
            record_view(shown)
        return response


def _plans(model: type[models.Model]) -> Iterable[ModelPlan]:
    if not get_settings().enabled:
        return ()
    plans = get_registry().senders.get(model, ())
    return [plan for plan in plans if plan.by_event[EventType.VIEW] and not is_suspended(plan.model)]


def _record(obj: models.Model, plan: ModelPlan) -> bool:
    using, pk = router.db_for_write(obj.__class__, instance=obj), row_key(obj, plan.model)
    rules = [item.rule for item in plan.by_event[EventType.VIEW]]
    if obj.pk is None or not is_ready(using) or not _is_due(plan, row_name(plan.model, pk), rules, using):
        return False
    change = Change(event_type=EventType.VIEW, source=Source.SIGNAL, using=using, model=plan.model, pk=pk, instance=obj)
    # The event is written with its notifications, or not at all.
    with transaction.atomic(using=using):
        return bool(record_changes([change], using))


def _is_due(plan: ModelPlan, name: str, rules: Iterable[Rule], using: str) -> bool:
    """Return whether some rule hasn't heard of this user's looking at the object within its window."""
    now, actor = utc_now(), object_id(resolve_actor()[0])
    windows = {rule.name: parse_duration(rule.window or DEFAULT_WINDOW) or dt.timedelta() for rule in rules}
    events = events_of_writer(using).filter(model=plan.label, object_id=name, event_type=EventType.VIEW, actor_id=actor)
    since = now - max(windows.values(), default=dt.timedelta())
    last: dict[str, dt.datetime] = {}
    told = events.filter(recorded_at__gte=since).order_by("id").values_list("rules", "recorded_at", "context")
    real = _real_user({"impersonator": resolve_impersonator()})
    for names, moment, context in told:
        # Somebody else who works as the user looks for themselves.
        if _real_user(context) == real:
            last.update(dict.fromkeys(names, moment))
    return any(rule not in last or last[rule] < now - window for rule, window in windows.items())


def _real_user(context: object) -> object:
    """Return the key of the user who works as another one, None if nobody does."""
    found = context.get("impersonator") if isinstance(context, dict) else None
    return found.get("id") if isinstance(found, dict) else None


def _shown(request: HttpRequest, response: HttpResponseBase) -> models.Model | None:
    """Return the object that a response shows, None if it shows none or many."""
    match = request.resolver_match
    model_admin = getattr(match.func, "model_admin", None) if match is not None else None
    if match is not None and model_admin is not None:
        if (match.url_name or "").rpartition("_")[2] not in _PAGES:
            return None
        context = getattr(response, "context_data", None) or {}
        shown = context.get("original") or context.get("object")
    else:
        # A response of REST framework knows its serializer, and that its object.
        serializer = getattr(getattr(response, "data", None), "serializer", None)
        shown = getattr(serializer, "instance", None)
    return shown if isinstance(shown, models.Model) else None
