"""The page of the inbox, and its messages as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, UnreadablePostError
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET, require_POST

from django_signal_audit.inbox.choices import objects_to_mute
from django_signal_audit.inbox.mailbox import Mailbox
from django_signal_audit.models import Notification
from django_signal_audit.reports.display import spelled_out

LARGEST_KEY = 2**63 - 1
MOST_KEYS = 1000


def key_from(text: Any, name: str) -> int | None:
    """Return the key of a message, None for none.

    Raises:
        BadRequest: It is no whole number that a key can be.

    """
    if text in (None, ""):
        return None
    is_digits = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 20
    number = int(text) if is_digits else text
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= LARGEST_KEY:
        msg = f"{name} must be the id of a message."
        raise BadRequest(msg)
    return number


def cursors(request: HttpRequest) -> dict[str, int | None]:
    """Return where the page asked for begins."""
    return {name: key_from(request.GET.get(name), name) for name in ("before", "after")}


def marked(request: HttpRequest) -> tuple[list[int], int | None]:
    """Return the keys of the messages to be marked, and the key up to which all are.

    Raises:
        BadRequest: Neither is named, or not as keys, or more than 1,000 are.

    """
    said = json_of(request) if request.content_type == "application/json" else _form(request)
    ids = said.get("ids") or []
    if not isinstance(ids, list) or len(ids) > MOST_KEYS:
        msg = f"ids must be a list of at most {MOST_KEYS} ids of messages."
        raise BadRequest(msg)
    keys = [key for item in ids if (key := key_from(item, "ids")) is not None]
    up_to = key_from(said.get("up_to"), "up_to")
    if not keys and up_to is None:
        msg = 'Say which messages: "ids", or "up_to" for one and all older ones.'
        raise BadRequest(msg)
    return keys, up_to


def _form(request: HttpRequest) -> Mapping[str, Any]:
    return {"ids": request.POST.getlist("ids"), "up_to": request.POST.get("up_to")}


def json_of(request: HttpRequest) -> Mapping[str, Any]:
    """Return the JSON object that a request brings.

    Raises:
        BadRequest: It brings none.

    """
    try:
        said = json.loads(request.body)
    except (ValueError, RecursionError, UnreadablePostError):
        said = None
    if not isinstance(said, dict):
        msg = "The body must be a JSON object."
        raise BadRequest(msg)
    return said


Answer = Callable[[HttpRequest, Mailbox], dict[str, Any]]


@require_GET
@login_required
@never_cache
@csrf_protect
def show(request: HttpRequest) -> HttpResponse:
    """Show the user's messages, newest first, and note that they have seen them."""
    mailbox = Mailbox(_user(request))
    page = mailbox.page(**cursors(request))
    mailbox.see(page.messages)
    objects = objects_to_mute(page.messages)
    context = {
        "page": page,
        "shown": [(message, objects.get(message.pk)) for message in page.messages],
        "unread": mailbox.count_unread(),
        "query": request.GET.urlencode(),
    }
    response = render(request, "django_signal_audit/inbox/messages.html", context)
    response.content = spelled_out(response.content.decode())
    return response


@require_POST
@login_required
@csrf_protect
def mark(request: HttpRequest) -> HttpResponse:
    """Mark messages as read, and go back to the page they were marked on."""
    _mark(request, Mailbox(_user(request)))
    query = request.GET.urlencode()
    address = reverse("signal_audit:inbox", current_app=getattr(request.resolver_match, "namespace", None))
    return HttpResponseRedirect(f"{address}?{query}" if query else address)


def as_json(answer: Answer) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view that answers in JSON, errors too."""

    @wraps(answer)
    def view(request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            return JsonResponse({"error": "Log in first."}, status=401)
        try:
            return JsonResponse(answer(request, Mailbox(request.user)))
        except BadRequest as error:
            return JsonResponse({"error": str(error)}, status=400)

    return view


@require_GET
@never_cache
@as_json
def list_messages(request: HttpRequest, mailbox: Mailbox) -> dict[str, Any]:
    """Answer with a page of messages, and note that the user has seen them."""
    page = mailbox.page(**cursors(request))
    mailbox.see(page.messages)
    return {
        "messages": [_as_dict(message) for message in page.messages],
        "newer": page.newer,
        "older": page.older,
        "unread": mailbox.count_unread(),
    }


@require_GET
@never_cache
@as_json
def count_unread(request: HttpRequest, mailbox: Mailbox) -> dict[str, Any]:
    """Answer with the number of unread messages."""
    return {"unread": mailbox.count_unread()}


@require_POST
@csrf_protect
@as_json
def mark_read(request: HttpRequest, mailbox: Mailbox) -> dict[str, Any]:
    """Mark messages as read, and answer with how many were, and how many unread ones are left."""
    return {"marked": _mark(request, mailbox), "unread": mailbox.count_unread()}


def _mark(request: HttpRequest, mailbox: Mailbox) -> int:
    keys, up_to = marked(request)
    count = mailbox.read(keys) if keys else 0
    return count if up_to is None else count + mailbox.read_up_to(up_to)


def _as_dict(message: Notification) -> dict[str, Any]:
    return {
        "id": message.pk,
        "subject": message.subject,
        "body": message.body,
        "rule": message.rule,
        "sent_at": message.sent_at,
        "seen_at": message.seen_at,
        "read_at": message.read_at,
    }


def _user(request: HttpRequest) -> Any:
    return request.user
