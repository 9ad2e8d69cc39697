"""The page of the inbox, and its messages as JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET, require_POST

from django_signal_audit.models import Notification
from django_signal_audit.reports.sanitizing import spelled_out

from .mailbox import Mailbox
from .requests import cursors, marked

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
    context = {"page": page, "unread": mailbox.count_unread(), "query": request.GET.urlencode()}
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
