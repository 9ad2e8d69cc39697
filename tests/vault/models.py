"""Models that hold secrets, in an app of its own: `check` has something to say about each of them."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Upper


class Token(models.Model):
    """Its primary key is what lets somebody in, and so is its text."""

    key = models.CharField(max_length=40, primary_key=True)
    label = models.CharField(max_length=50, blank=True)

    def __str__(self) -> str:
        return self.key


class Gate(models.Model):
    name = models.CharField(max_length=50, blank=True)
    main = models.ForeignKey(Token, models.SET_NULL, null=True, blank=True, related_name="+")
    spare = models.ManyToManyField(Token, blank=True, related_name="gates")

    def __str__(self) -> str:
        return f"gate of {self.main}" if self.main_id else self.name


class EncryptedTextField(models.TextField):
    """Stands for the fields of packages that encrypt."""


class Strongbox(models.Model):
    note = EncryptedTextField(blank=True)
    tokens = models.CharField(max_length=50, blank=True)
    api_token = models.CharField(max_length=50, blank=True)
    settings = models.JSONField(default=dict, blank=True)
    shouted = models.GeneratedField(
        expression=Upper("api_token"), output_field=models.CharField(max_length=50), db_persist=True
    )

    def __str__(self) -> str:
        return f"box with {self.api_token}"


class Invitation(models.Model):
    """Whoever knows its primary key is invited."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(blank=True)

    def __str__(self) -> str:
        return f"/invitations/{self.id}/"


class LoginCode(models.Model):
    code = models.PositiveIntegerField()
    email = models.EmailField(blank=True)

    def __str__(self) -> str:
        return f"{self.code} for {self.email}"
