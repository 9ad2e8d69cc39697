"""The page on which users choose what they are notified of, the same as JSON, and one-click unsubscribing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_not_required, login_required
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods

from django_signal_audit.delivery.links import read_token
from django_signal_audit.enums import Choice
from django_signal_audit.events.keys import object_id
from django_signal_audit.inbox.choices import choose, keep_quiet, mute, offers_to
from django_signal_audit.inbox.mailbox import Mailbox
from django_signal_audit.inbox.views import json_of, key_from
from django_signal_audit.models import Mute, Preference, QuietHours
from django_signal_audit.reports.display import spelled_out
from django_signal_audit.rules.registry import get_registry
from django_signal_audit.web.addresses import address_of

PAGE = "django_signal_audit/inbox/preferences.html"
CONFIRMATION = "django_signal_audit/inbox/unsubscribe.html"


@require_http_methods(["GET", "POST"])
@login_required
@never_cache
@csrf_protect
def show(request: HttpRequest) -> HttpResponse:
    """Show what the user may choose, and note what they have chosen."""
    user: Any = request.user
    status, error = 200, ""
    if request.method == "POST":
        try:
            note = _take_form(user, request.POST)
        except BadRequest as problem:
            status, error = 400, str(problem)
        else:
            messages.success(request, note, fail_silently=True)
            return HttpResponseRedirect(_back(request))
    context = {
        "offers": offers_to(user),
        "choices": Choice.choices,
        "quiet": QuietHours.objects.filter(pk=object_id(user.pk)).first(),
        "zone": timezone.get_current_timezone_name(),
        "muted": Mute.objects.of(user).order_by("-pk"),
        "error": error,
    }
    response = render(request, PAGE, context, status=status)
    response.content = spelled_out(response.content.decode())
    return response


def _back(request: HttpRequest) -> str:
    return address_of(request, "inbox" if "mute" in request.POST else "preferences")


def _take_form(user: Model, form: Any) -> str:
    """Do what one of the page's forms says, and return what is to be said of it."""
    if "mute" in form:
        _mute(user, form["mute"])
        return _("You get no more messages about this object.")
    if "unmute" in form:
        _unmute(user, form["unmute"])
        return _("You get messages about this object again.")
    if "quiet" in form:
        keep_quiet(user, form if form["quiet"] == "on" else None)
        return _("Your quiet hours are saved.")
    chosen = zip(form.getlist("rule"), form.getlist("channel"), form.getlist("choice"), strict=False)
    choose(user, {(rule, channel): choice for rule, channel, choice in chosen})
    return _("Your preferences are saved.")


@login_not_required
@require_http_methods(["GET", "POST"])
@never_cache
@csrf_protect
def answer(request: HttpRequest) -> HttpResponse:
    """Answer in JSON with what the user has chosen, after noting what they choose."""
    if not request.user.is_authenticated:
        return JsonResponse({"error": "Log in first."}, status=401)
    try:
        if request.method == "POST":
            _take_json(request.user, json_of(request))
    except BadRequest as error:
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse(_as_dict(request.user))


def _take_json(user: Model, said: Mapping[str, object]) -> None:
    actions: dict[str, Callable[[Any], None]] = {
        "mute": lambda value: _mute(user, value),
        "unmute": lambda value: _unmute(user, value),
        "quiet_hours": lambda value: keep_quiet(user, value),
        "choice": lambda value: choose(user, {(str(said.get("rule")), str(said.get("channel"))): str(value)}),
    }
    asked = [name for name in actions if name in said]
    if len(asked) != 1:
        msg = f"Say one of {', '.join(actions)}."
        raise BadRequest(msg)
    value = said[asked[0]]
    if asked == ["quiet_hours"] and not (value is None or isinstance(value, dict)):
        msg = "quiet_hours must be an object with begin, end and time_zone, or null."
        raise BadRequest(msg)
    actions[asked[0]](value)


def _mute(user: Model, key: object) -> None:
    pk = key_from(key, "mute")
    message = Mailbox(user).messages.filter(pk=pk).first() if pk is not None else None
    if message is None:
        msg = "mute must be the id of one of your messages."
        raise BadRequest(msg)
    mute(user, message)


def _unmute(user: Model, key: object) -> None:
    pk = key_from(key, "unmute")
    if pk is None or not Mute.objects.of(user).filter(pk=pk).delete()[0]:
        msg = "unmute must be the id of one of your muted objects."
        raise BadRequest(msg)


def _as_dict(user: Model) -> dict[str, object]:
    quiet = QuietHours.objects.filter(pk=object_id(user.pk)).first()
    return {
        "preferences": [
            {
                "rule": offer.rule.name,
                "channel": offer.channel,
                "choice": offer.choice,
                "locked": offer.is_locked,
                "opt_in": offer.is_opt_in,
            }
            for offer in offers_to(user)
        ],
        "choices": Choice.values,
        "quiet_hours": quiet
        and {"begin": f"{quiet.begin:%H:%M}", "end": f"{quiet.end:%H:%M}", "time_zone": quiet.time_zone},
        "muted": [
            {"id": item.pk, "model": item.model, "object_id": item.object_id, "object": item.object_repr}
            for item in Mute.objects.of(user).order_by("-pk")
        ],
    }


@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@csrf_exempt
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Ask whether a rule's messages are to end (GET), or end them (POST), for the user whom a signed link names.

    Programs that read mail follow its links, so GET changes nothing. Mail servers send the POST (RFC 8058), without
    cookies, so there is no CSRF token: the link itself is the secret.
    """
    key, rule, channel = read_token(token) or ("", "", "")
    user = _user(key) if key else None
    context: dict[str, Any] = {"is_known": user is not None}
    status = 404 if user is None else 200
    if user is not None:
        known = get_registry().rule(rule)
        context |= {"rule": rule, "channel": channel, "is_locked": known is not None and known.locked}
        if not context["is_locked"]:
            form = request.POST if request.method == "POST" else None
            context |= _switch_off(user, rule, channel, form)
        elif request.method == "POST":
            status = 403
    response = render(request, CONFIRMATION, context, status=status)
    response["Referrer-Policy"] = "no-referrer"
    response["X-Robots-Tag"] = "noindex"
    response.content = spelled_out(response.content.decode())
    return response


def _switch_off(user: Model, rule: str, channel: str, form: Mapping[str, str] | None) -> dict[str, Any]:
    """Switch a rule's messages by a channel off for a user, or undo that; return what the page is to say.

    The page has the former choice in the buttons of its form: whoever unsubscribed by mistake may have had a digest.

    Args:
        user: The user.
        rule: The name of the rule.
        channel: The alias of the channel.
        form: What the user sends, None if they only look.

    """
    rows = Preference.objects.filter(user=object_id(user.pk), rule=rule, channel=channel)
    present = rows.values_list("choice", flat=True).first()
    if form is None:
        return {"is_done": present == Choice.OFF, "former": _wanted(present)}
    if "undo" in form:
        former = _wanted(form["undo"])
        Preference.objects.choose(user, rule=rule, channel=channel, choice=former)
        return {"is_undone": True, "former": former}
    # Sent twice, it is off already, and the form still has what was chosen before.
    former = _wanted(form.get("former") if present == Choice.OFF else present)
    Preference.objects.choose(user, rule=rule, channel=channel, choice=Choice.OFF)
    return {"is_done": True, "former": former}


def _wanted(choice: str | None) -> str:
    """Return a choice by which messages come."""
    return choice if choice in Choice.values and choice != Choice.OFF else Choice.ON.value


def _user(key: str) -> Model | None:
    try:
        return get_user_model()._default_manager.filter(pk=key).first()
    except (ValueError, ValidationError):
        return None
