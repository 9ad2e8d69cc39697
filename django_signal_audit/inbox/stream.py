"""Pushing to the inbox by server-sent events: how many messages are unread, as soon as that changes.

Only under ASGI, where a connection that waits costs no thread. One task per event loop asks the database for all users
who are connected, and each user has one connection: a newer one ends the older.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Collection, Iterable
from typing import TypeAlias
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.core.handlers.asgi import ASGIRequest
from django.db import Error, close_old_connections
from django.db.models import Count, Max, Q
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from django_signal_audit.events.keys import object_id
from django_signal_audit.inbox.mailbox import inbox_rows
from django_signal_audit.models.tenants import tenant_of_tables
from django_signal_audit.transient import log_error

logger = logging.getLogger("django_signal_audit")

# How often the database is asked, and how long nothing may be sent: proxies close connections that are silent.
LOOK_SECONDS = 2.0
SILENT_SECONDS = 15.0
# After that a connection ends, and the browser opens another: a user who has logged out meanwhile gets none.
LONGEST_SECONDS = 600.0

# The key of the newest message, and how many are unread.
State: TypeAlias = tuple[int, int]
# A tenant, where the setting TENANT names a function, and the text of a user's primary key.
Owner: TypeAlias = tuple[str, str]


def states_of(owners: Iterable[Owner]) -> dict[Owner, State]:
    """Return the state of inboxes, in one query; without a tenant, those of all tenants count."""
    rows = inbox_rows().filter(recipient__in={user for _, user in owners}).order_by().values_list("tenant", "recipient")
    found: dict[Owner, State] = {}
    for tenant, user, newest, unread in rows.annotate(newest=Max("pk"), unread=Count("pk", filter=Q(read_at=None))):
        for owner in {(tenant, user), ("", user)}:
            known = found.get(owner, (0, 0))
            found[owner] = max(known[0], newest), known[1] + unread
    return found


def _ask(owners: Collection[Owner]) -> dict[Owner, State]:
    close_old_connections()
    try:
        return states_of(owners)
    finally:
        close_old_connections()


class Hub:
    """The connections of one event loop, and the task that asks for them all."""

    def __init__(self) -> None:
        self._queues: dict[Owner, asyncio.Queue[State | None]] = {}
        self._task: asyncio.Task[None] | None = None

    def join(self, owner: Owner) -> asyncio.Queue[State | None]:
        """Return the queue that an inbox's states come by; None in it says that a newer connection has taken over."""
        older = self._queues.get(owner)
        if older is not None:
            older.put_nowait(None)
        queue = self._queues[owner] = asyncio.Queue()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return queue

    def leave(self, owner: Owner, queue: asyncio.Queue[State | None]) -> None:
        """Forget a connection that has ended."""
        if self._queues.get(owner) is queue:
            del self._queues[owner]

    async def _run(self) -> None:
        told: dict[asyncio.Queue[State | None], State] = {}
        while self._queues:
            try:
                found = await sync_to_async(_ask)(tuple(self._queues))
            except Error as error:
                log_error(error, "The inbox cannot be read; trying again", level=logging.WARNING)
                found = None
            for owner, queue in self._queues.items() if found is not None else ():
                state = (found or {}).get(owner, (0, 0))
                if told.get(queue) != state:
                    told[queue] = state
                    queue.put_nowait(state)
            told = {queue: state for queue, state in told.items() if queue in self._queues.values()}
            await asyncio.sleep(LOOK_SECONDS)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


@login_not_required
async def stream(request: HttpRequest) -> HttpResponseBase:
    """Push the state of the user's inbox for as long as they are connected."""
    user = await request.auser()
    if not user.is_authenticated:
        return JsonResponse({"error": "Log in first."}, status=401)
    if not isinstance(request, ASGIRequest):
        # A thread would wait for each of them. This status has the browser connect no more.
        return HttpResponse(status=204)
    response = StreamingHttpResponse(
        _events((await sync_to_async(tenant_of_tables)(), object_id(user.pk))), content_type="text/event-stream"
    )
    response["Cache-Control"] = "no-cache, private"
    response["X-Accel-Buffering"] = "no"
    return response


async def _events(owner: Owner) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    hub = _hubs.setdefault(loop, Hub())
    queue, end = hub.join(owner), loop.time() + LONGEST_SECONDS
    try:
        while loop.time() < end:
            try:
                state = await asyncio.wait_for(queue.get(), SILENT_SECONDS)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            if state is None:
                yield "event: replaced\ndata: {}\n\n"
                return
            newest, unread = state
            yield f"event: inbox\ndata: {json.dumps({'newest': newest, 'unread': unread})}\n\n"
    finally:
        hub.leave(owner, queue)
