"""The tenants of django-tenants, whose rows every schema shares."""

from __future__ import annotations

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Company(TenantMixin):
    name = models.CharField(max_length=50)


class Domain(DomainMixin):
    pass
