"""Tasks of Celery."""

from __future__ import annotations

from celery import shared_task

from .models import Tag


@shared_task(ignore_result=True)
def rename(pk: int, name: str) -> None:
    tag = Tag.objects.get(pk=pk)
    tag.name = name
    tag.save()


@shared_task(ignore_result=True)
def rename_twice(pk: int) -> None:
    rename.run(pk, "ash")
    rename.delay(pk, "oak")


@shared_task(ignore_result=True)
def rename_and_fail(pk: int) -> None:
    rename.run(pk, "ash")
    raise ValueError(pk)
