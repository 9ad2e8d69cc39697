"""Of which models a user may see events, and who decides about their rows.

For a model with a ModelAdmin on the site, that decides: its permissions, its queryset, its fields. For a model that is
edited inline, the page of the parent does. For any other model the permissions do, and ``VISIBILITY`` in the settings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.db import models
from django.http import HttpRequest

from django_signal_audit.models.inheritance import heirs
from django_signal_audit.rules.patterns import OWN_APP
from django_signal_audit.rules.visibility import get_visibility, is_superuser, may_view_model

from .policies import AdminPolicy, ChildPolicy, InlinePolicy, PermissionPolicy, Policy
from .policies.base import ask


class ModelAccess:
    """Of which models the user of a request may see rows, and who decides about them."""

    def __init__(self, request: HttpRequest, site: AdminSite | None) -> None:
        self.request = request
        self.user: Any = request.user
        registered: dict[Any, Any] = {} if site is None else site._registry  # noqa: SLF001  # it has no other list
        # Of this package's own models there are no events, and their pages ask here.
        self._admins = {model: found for model, found in registered.items() if model._meta.app_label != OWN_APP}
        self._policies: dict[str, list[Policy]] = {}

    def may_view(self, label: str) -> bool:
        """Return whether the user may see any events of a model."""
        policies = self.policies(label)
        return any(not policy.sees_none for policy in policies) if policies else may_view_model(self.user, label)

    def is_partial(self, label: str) -> bool:
        """Return whether each row of a model has to be asked about."""
        return self.may_view(label) and not self.sees_all(label)

    def sees_all(self, label: str) -> bool:
        """Return whether the user may see all events of a model, without a look at any row."""
        policies = self.policies(label)
        return any(policy.sees_all for policy in policies) if policies else may_view_model(self.user, label)

    @cached_property
    def sees_everything(self) -> bool:
        """Return whether a superuser may see all events there are, without a look at which models they are of."""
        if get_visibility() is not None or not is_superuser(self.user):
            return False
        labels = {model._meta.concrete_model._meta.label_lower for model in (*self._admins, *self._inlines)}
        return all(map(self.sees_all, labels))

    def policies(self, label: str) -> list[Policy]:
        """Return who decides about a model, each of which is enough; nobody does about a model that is gone."""
        if label not in self._policies:
            try:
                model = apps.get_model(label) if label else None
            except (LookupError, ValueError):
                model = None
            self._policies[label] = [] if model is None else self._find_policies(model)
        return self._policies[label]

    def _find_policies(self, model: type[models.Model]) -> list[Policy]:
        if model in self._admins:
            return [AdminPolicy(self.request, self._admins[model])]
        proxies = [one for one in self._admins if one._meta.proxy and one._meta.concrete_model is model]
        found: list[Policy] = [AdminPolicy(self.request, self._admins[proxy]) for proxy in proxies]
        for parent, kind in self._inlines.get(model, ()):
            found.append(InlinePolicy(self.request, AdminPolicy(self.request, parent), kind))
        return found or self._inherited(model) or [self._by_permission(model)]

    def _by_permission(self, model: type[models.Model]) -> Policy:
        return PermissionPolicy(self.user, model, has_hook=get_visibility() is not None)

    def _inherited(self, model: type[models.Model]) -> list[Policy]:
        """Return the policies of the nearest parent that has a ModelAdmin."""
        for parent in model._meta.get_parent_list():
            deciding = [one for one in self.policies(parent._meta.label_lower) if not isinstance(one, PermissionPolicy)]
            if deciding and model in heirs(parent):
                return [ChildPolicy(self.user, model, one) for one in deciding]
        return []

    @cached_property
    def _inlines(self) -> dict[type[models.Model], list[tuple[Any, Any]]]:
        """Return the inlines of the site by the concrete model of their rows, each with its parent's ModelAdmin."""
        found: dict[type[models.Model], list[tuple[Any, Any]]] = defaultdict(list)
        for admin in self._admins.values():
            kinds: Iterable[Any] = ask(lambda: admin.get_inlines(self.request, None), otherwise=())  # noqa: B023
            for kind in dict.fromkeys((*kinds, *admin.inlines)):
                concrete = kind.model._meta.concrete_model
                if not concrete._meta.auto_created:
                    found[concrete].append((admin, kind))
        return found
