"""The page of the inbox, and its messages as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

from django.contrib.auth.decorators import login_not_required, login_required
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, UnreadablePostError
from django.shortcuts import render
from django.urls import get_script_prefix
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET, require_POST

from django_signal_audit.delivery.rendering import reason_of
from django_signal_audit.inbox.listing import days_of
from django_signal_audit.inbox.mailbox import Mailbox
from django_signal_audit.models import Notification
from django_signal_audit.reports.display import spelled_out
from django_signal_audit.web.addresses import address_of

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


class Marked(NamedTuple):
    """The keys of messages to be marked, the key up to which all are, and whether as read."""

    keys: list[int]
    up_to: int | None
    is_read: bool


def marked(request: HttpRequest) -> Marked:
    """Return which messages are to be marked, and as what.

    Raises:
        BadRequest: Neither is named, or not as keys, or more than 1,000 are.

    """
    said = json_of(request) if request.content_type == "application/json" else _form(request)
    is_read = said.get("read", True)
    if not isinstance(is_read, bool):
        msg = "read must be true or false."
        raise BadRequest(msg)
    ids = said.get("ids") or []
    if not isinstance(ids, list) or len(ids) > MOST_KEYS:
        msg = f"ids must be a list of at most {MOST_KEYS} ids of messages."
        raise BadRequest(msg)
    keys = [key for item in ids if (key := key_from(item, "ids")) is not None]
    up_to = key_from(said.get("up_to"), "up_to")
    if not keys and (up_to is None or not is_read):
        msg = 'Say which messages: "ids", or "up_to" to mark one and all older ones as read.'
        raise BadRequest(msg)
    return Marked(keys, up_to, is_read)


def _form(request: HttpRequest) -> Mapping[str, object]:
    is_read = request.POST.get("read") != "false"
    return {"ids": request.POST.getlist("ids"), "up_to": request.POST.get("up_to"), "read": is_read}


def json_of(request: HttpRequest) -> Mapping[str, object]:
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
    ends, is_unread = cursors(request), request.GET.get("show") == "unread"
    mailbox = Mailbox(_user(request), is_unread=is_unread)
    page = mailbox.page(**ends)
    mailbox.see(page.messages)
    context = {
        "page": page,
        "days": days_of(request, page.messages),
        "unread": mailbox.count_unread(),
        "is_unread": is_unread,
        "is_newest": not any(ends.values()),
        "query": request.GET.urlencode(),
        "home": get_script_prefix(),
    }
    response = render(request, "django_signal_audit/inbox/messages.html", context)
    response.content = spelled_out(response.content.decode())
    return response


@require_POST
@login_required
@csrf_protect
def mark(request: HttpRequest) -> HttpResponse:
    """Mark messages as read or unread, and go back to the page they were marked on."""
    _mark(request, Mailbox(_user(request)))
    query = request.GET.urlencode()
    address = address_of(request, "inbox")
    return HttpResponseRedirect(f"{address}?{query}" if query else address)


def as_json(answer: Answer) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view that answers in JSON, errors too, and those who are not logged in among them."""

    @login_not_required
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
def list_messages(request: HttpRequest, mailbox: Mailbox) -> dict[str, object]:
    """Answer with a page of messages, and note that the user has seen them."""
    page = mailbox.page(**cursors(request))
    mailbox.see(page.messages)
    return {
        "messages": [_as_dict(message, request.user) for message in page.messages],
        "newer": page.newer,
        "older": page.older,
        "unread": mailbox.count_unread(),
    }


@require_GET
@never_cache
@as_json
def count_unread(request: HttpRequest, mailbox: Mailbox) -> dict[str, object]:
    """Answer with the number of unread messages."""
    return {"unread": mailbox.count_unread()}


@require_POST
@csrf_protect
@as_json
def mark_read(request: HttpRequest, mailbox: Mailbox) -> dict[str, object]:
    """Mark messages as read or unread, and answer with how many were, and how many unread ones are left."""
    return {"marked": _mark(request, mailbox), "unread": mailbox.count_unread()}


def _mark(request: HttpRequest, mailbox: Mailbox) -> int:
    keys, up_to, is_read = marked(request)
    if not is_read:
        return mailbox.unread(keys)
    count = mailbox.read(keys) if keys else 0
    return count if up_to is None else count + mailbox.read_up_to(up_to)


def _as_dict(message: Notification, user: object) -> dict[str, object]:
    return {
        "id": message.pk,
        "subject": message.subject,
        "body": message.body,
        "rule": message.rule,
        "reason": reason_of(message, user),
        "sent_at": message.sent_at,
        "seen_at": message.seen_at,
        "read_at": message.read_at,
    }


def _user(request: HttpRequest) -> Any:
    return request.user
