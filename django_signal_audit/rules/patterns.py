"""Which models a pattern means, and which fields of a model can be audited."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, TypeGuard

from django.apps import AppConfig, apps
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from django_signal_audit.conf import QUEUE_MODELS, get_settings
from django_signal_audit.problems import Problem, did_you_mean, shown
from django_signal_audit.rules.hints import split

Model: TypeAlias = type[models.Model]
Field: TypeAlias = "models.Field[Any, Any]"

OWN_APP = "django_signal_audit"


def concrete(model: Model) -> Model:
    """Return the model whose table the rows are in: itself, or what a proxy stands for."""
    return model._meta.concrete_model or model


def auditable_models() -> list[Model]:
    """Return every concrete model that may be audited: all but this package's own and automatic through models."""
    return [model for model in apps.get_models() if _is_auditable(model)]


def _is_auditable(model: Model) -> bool:
    options = model._meta
    return not options.proxy and not options.swapped and options.app_label != OWN_APP and is_sound(model)


def is_sound(model: Model) -> bool:
    """Return whether the primary key is of fields and relations that exist. Django's own checks report where not."""
    try:
        keys = [field for one in (model, *model._meta.get_parent_list()) for field in one._meta.pk_fields]
    except FieldDoesNotExist:
        return False
    return not any(field.remote_field and isinstance(field.remote_field.model, str) for field in keys)


def is_wildcard(pattern: str) -> bool:
    """Return whether a pattern may mean several models."""
    return pattern == "*" or pattern.endswith(".*")


def find_model(label: str) -> Model | None:
    """Return the model with that label in any case, a proxy itself; None if there is none."""
    label = label.lower()
    every = apps.get_models(include_auto_created=True, include_swapped=True)
    return next((model for model in every if model._meta.label.lower() == label), None)


def matching(pattern: str) -> list[Model]:
    """Return the concrete models a pattern means, whatever EXCLUDE_MODELS says; none if it is wrong."""
    if pattern == "*":
        return auditable_models()
    if is_wildcard(pattern):
        label = pattern.removesuffix(".*").lower()
        return [one for one in apps.get_models() if one._meta.app_label.lower() == label and _is_auditable(one)]
    found = find_model(pattern)
    model = None if found is None else concrete(found)
    return [] if model is None or model._meta.auto_created or not _is_auditable(model) else [model]


def resolve(pattern: str) -> list[Model]:
    """Return the models that a rule's pattern means, none if it is wrong.

    A wildcard leaves out the tables in which other packages keep their history, and ``"*"`` leaves out EXCLUDE_MODELS.
    A model that is named is always meant.
    """
    found = matching(pattern)
    if not is_wildcard(pattern):
        return found
    found = [model for model in found if not is_history(model)]
    if pattern != "*":
        return found
    labels = (*QUEUE_MODELS, *get_settings().exclude_models)
    excluded = {model for label in labels for model in matching(label)}
    return [model for model in found if model not in excluded]


def means(patterns: Iterable[str], model: Model) -> bool:
    """Return whether a rule's patterns mean a concrete model by its own label, as ``resolve_all`` would say."""
    if not _is_auditable(model) or model._meta.auto_created:
        return False
    named = {pattern.lower() for pattern in patterns}
    label, app = model._meta.label.lower(), f"{model._meta.app_label.lower()}.*"
    if label in named:
        return True
    if is_history(model):
        return False
    excluded = {name.lower() for name in (*QUEUE_MODELS, *get_settings().exclude_models)}
    return app in named or ("*" in named and excluded.isdisjoint((label, app)))


def is_history(model: Model) -> bool:
    """Return whether another package keeps the history of a model in this one, which is in the same app."""
    descriptor = model.__dict__.get("history_object")
    if type(descriptor).__module__.startswith("simple_history."):
        return True
    return any(base.__module__.startswith("pghistory.") for base in model.__mro__)


def resolve_all(patterns: Iterable[str]) -> list[Model]:
    """Return the models that any of the patterns means, each once."""
    return list(dict.fromkeys(model for pattern in patterns for model in resolve(pattern)))


def key_fields(model: Model) -> list[Field]:
    """Return the fields that make up the identity of a row: its key's, and those of the parents' rows it shares."""
    of_rows = [field for one in (model, *model._meta.get_parent_list()) for field in one._meta.pk_fields]
    return [*of_rows, *(link for link in model._meta.parents.values() if link is not None)]


def auditable_fields(model: Model) -> dict[str, Field]:
    """Return the concrete fields of a model by name, inherited ones among them.

    A single-column key is left out, for it never changes and the event names it; the parts of a composite key stay.
    """
    own = model._meta.pk_fields
    # By identity: comparing and hashing fields takes most of the time that reading the rules does.
    keys = {id(field) for field in key_fields(model)} - ({id(field) for field in own} if len(own) > 1 else set())
    return {field.name: field for field in model._meta.concrete_fields if id(field) not in keys and field.column}


def auditable_members(model: Model) -> dict[str, models.ManyToManyField[Any, Any]]:
    """Return the m2m fields with an automatic through model by name; others are recorded by their through rows."""
    through = ((field, field.remote_field.through) for field in model._meta.many_to_many)
    # Of a model that is missing there is only the name, or nothing.
    return {field.name: field for field, found in through if _is_model(found) and found._meta.auto_created}


def hand_written_members(model: Model) -> dict[str, Model]:
    """Return the m2m fields that have a through model of their own, with it."""
    through = {field.name: field.remote_field.through for field in model._meta.many_to_many}
    return {name: found for name, found in through.items() if _is_model(found) and not found._meta.auto_created}


def _is_model(found: object) -> TypeGuard[Model]:
    return isinstance(found, type)


# So many models of an app are named in a hint.
_SHOWN = 3


def nearest_label(text: str, models: Iterable[Model] | None = None) -> str:
    """Return a hint with the label of the model or the pattern of the app that somebody most likely meant.

    A class name, a dotted path, a table, a verbose name and an app are understood.

    Args:
        text: What they wrote, which is no label of a model.
        models: The models to choose from; None for all that may be audited.

    """
    labels = _labels(models)
    last = _plain(text.removesuffix(".*").rpartition(".")[2])
    alike = [label for model, label in labels.items() if last in (model._meta.model_name, f"{model._meta.model_name}s")]
    return meant_label(text, models) or did_you_mean(text, alike or labels.values())


def meant_label(text: str, models: Iterable[Model] | None = None) -> str:
    """Return a hint if the text is another name of a model or an app, ``""`` if it is none; see ``nearest_label``."""
    labels = _labels(models)
    wanted = _plain(text.removesuffix(".*"))
    meant = [label for model, label in labels.items() if wanted in map(_plain, _names(model))]
    config = _app(text)
    if meant:
        return did_you_mean(text, meant)
    if config is None:
        return ""
    some = [label for model, label in labels.items() if model._meta.app_label == config.label][:_SHOWN]
    return f'Write "{config.label}.*" for all models of the app, or one of them: {", ".join(some) or "none"}.'


def _labels(models: Iterable[Model] | None) -> dict[Model, str]:
    known = apps.get_models() if models is None else models
    return {model: model._meta.label for model in known if model._meta.app_label != OWN_APP}


def _plain(text: str) -> str:
    """Return what is left of a name without its case and punctuation: ``shop_product`` is ``shop.Product``."""
    return re.sub(r"[\W_]+", "", text).lower()


def _names(model: Model) -> Iterator[str]:
    """Yield what people call a model."""
    options = model._meta
    plural = str(options.verbose_name_plural)
    yield from (options.object_name or "", str(options.verbose_name), plural, options.db_table)
    yield from (f"{model.__module__}.{model.__name__}", f"{options.app_label}.{plural}")
    yield from (f"{name}.{options.object_name}" for name in (options.app_config.name, f"{options.app_label}.models"))


def _app(text: str) -> AppConfig | None:
    name = text.removesuffix(".*").removesuffix(".models").lower()
    for config in apps.get_app_configs():
        if name in (config.label.lower(), config.name.lower(), str(config.verbose_name).lower()):
            return config
    return None


def pattern_problems(pattern: str, path: str) -> list[Problem]:
    """Return why a pattern means no model that can be audited."""
    if matching(pattern):
        return []
    if is_wildcard(pattern):
        known = {f"{model._meta.app_label}.*" for model in auditable_models()}
        hint = meant_label(pattern) or did_you_mean(pattern, known)
        return [Problem("E009", path, f"is {pattern!r}, which matches no model.", hint)]
    model = find_model(pattern)
    if model is None and re.search(r"[*?]", pattern):
        return [Problem("E009", path, f"is {pattern!r}, which isn't a pattern.", _pattern_hint(pattern))]
    if model is None:
        several = split(pattern)
        hint = f"It is one string. Write {several!r}." if len(several) > 1 else nearest_label(pattern)
        return [Problem("E009", path, f"is {pattern!r}, but that model doesn't exist.", hint)]
    owner: Any = model._meta.auto_created
    if owner:
        hint = f"Audit the many-to-many field of {owner._meta.label} instead."
        return [Problem("E009", path, f"is {pattern!r}, an automatic through model.", hint)]
    swapped = model._meta.swapped
    hint = f"Write {swapped!r}, which is used in its place." if swapped else "Remove it."
    return [Problem("E009", path, f"is {pattern!r}, which cannot be audited.", hint)]


def _pattern_hint(pattern: str) -> str:
    labels = [model._meta.label for model in auditable_models()]
    found = [label for label in labels if fnmatch.fnmatchcase(label.lower(), pattern.lower())]
    app = pattern.partition(".")[0]
    if set(found) == {label for label in labels if label.startswith(f"{app}.")}:
        return f"Write '{app}.*' for all models of the app." if found else 'Patterns are "*" and "app_label.*".'
    return f"Write {shown(found)}." if found else 'Patterns are "*" and "app_label.*".'
