"""Tasks of ``django.tasks``."""

from __future__ import annotations

import django

from django_signal_audit import audited_task

from .models import Tag

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task


@audited_task
@task
def rename(pk, name):
    tag = Tag.objects.get(pk=pk)
    tag.name = name
    tag.save()
    return name


@audited_task
@task
async def arename(pk, name):
    tag = await Tag.objects.aget(pk=pk)
    tag.name = name
    await tag.asave()


@audited_task
@task(takes_context=True)
def rename_to_attempt(context, pk):
    rename.func(pk, f"attempt {context.attempt}")


@audited_task
@task
def rename_later(pk, name):
    rename.enqueue(pk, name)


@task
def rename_plainly(pk, name):
    rename.func(pk, name)
