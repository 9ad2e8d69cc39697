"""The package's own addresses, wherever a project includes them: what a prefix such as ``<slug:tenant>/`` captures."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.urls import reverse
from django.utils.encoding import escape_uri_path


def below_prefix(view: Callable[..., Any], *own: str) -> Callable[..., Any]:
    """Return a view that takes the arguments of its own pattern, and not those that patterns above it capture.

    Args:
        view: The view.
        own: What its own pattern captures.

    """

    @wraps(view)
    def taken(request: HttpRequest, *_args: object, **captured: object) -> Any:
        return view(request, **{name: captured[name] for name in own})

    return markcoroutinefunction(taken) if iscoroutinefunction(view) else taken


def address_of(request: HttpRequest, name: str) -> str:
    """Return the address of another of the package's pages, below the same prefix as the page of the request.

    Raises:
        NoReverseMatch: There is none: a page with named arguments isn't told what a prefix captures without a name.

    """
    match: Any = request.resolver_match  # the stubs lack two attributes
    if match is None or match.app_names[-1:] != ["signal_audit"]:
        return reverse(f"signal_audit:{name}")
    # What Django calls captured is of the page's own pattern.
    own = {**match.captured_kwargs, **match.extra_kwargs}
    captured = {key: value for key, value in match.kwargs.items() if key not in own}
    return reverse(f"{match.namespace}:{name}", args=None if captured else match.args, kwargs=captured)


def beside(request: HttpRequest, query: str) -> str | None:
    """Return the address of the request with another query, None if that is empty."""
    # Django has decoded the path: a key in it may hold "?" and "%".
    return f"{escape_uri_path(request.path)}{query}" if query else None
