"""From what somebody wrote for a model to the label that they most likely meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from django.apps import AppConfig, apps

from django_signal_audit.problems import did_you_mean

from .patterns import OWN_APP, Model

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
