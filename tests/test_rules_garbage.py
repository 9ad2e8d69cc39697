"""Whatever stands in SIGNAL_AUDIT: the checks report it, and nothing else breaks."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import transaction
from django.test import override_settings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from django_signal_audit.conf import KEYS
from django_signal_audit.rules.conditions import OPERATORS, WORDS
from django_signal_audit.rules.schema import NOTIFY_KEYS, RULE_KEYS, Rule

from .app.models import Product, Unaudited
from .notices import CALLABLE, EMAIL
from .processes.stage import choose

pytestmark = [pytest.mark.slow, pytest.mark.django_db(databases=["default", "other"])]

SOUND = {"name": "sound", "model": "app.Product", "fields": ["name"]}


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


_WORDS = (
    *(*KEYS, *RULE_KEYS, *NOTIFY_KEYS, *OPERATORS, *WORDS),
    *("*", ".*", "app.*", "app.Product", "app.Picture", "app", ".", "..", "a.b.c", "create", "m2m", "login", "all"),
    *("name", "price", "stock", "tags", "released", "attributes", "id", "category", "category_id", "info", "10"),
    *("tests.test_rules_garbage.SOUND", "tests.app.signals.viewed", "django.db.models.signals.post_save"),
    *("BACKEND", "OPTIONS", "to", "target", CALLABLE, EMAIL, "it", "raise", "log", "7d", "{{ x", "{% if %}", ""),
)


@st.composite
def words(draw: st.DrawFn) -> str:
    """Draw a word that means something somewhere in the settings."""
    return draw(st.sampled_from(_WORDS))


WORDS_OF_SETTINGS = words()
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=20),
    st.text(st.sampled_from("\x00\ud800\n.'\"[]{}%*"), max_size=5),
    st.binary(max_size=5),
    st.dates(),
    st.timedeltas(),
    st.sampled_from([object(), Decimal("NaN"), float("inf"), dt.UTC, Product, len, range(3), ...]),
    WORDS_OF_SETTINGS,
)
KEYS_OF_DICTS = st.one_of(WORDS_OF_SETTINGS, st.text(max_size=5), st.integers(), st.none(), st.tuples(st.integers()))
_ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(st.one_of(st.integers(), WORDS_OF_SETTINGS), max_size=3),
        st.dictionaries(KEYS_OF_DICTS, inner, max_size=4),
    ),
    max_leaves=12,
)


@st.composite
def garbage(draw: st.DrawFn) -> Any:
    """Draw anything."""
    return draw(_ANYTHING)


GARBAGE = garbage()


def mostly(right: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of garbage and, as often, of what belongs there."""
    return st.one_of(right, GARBAGE)


NOTIFY = st.lists(mostly(st.dictionaries(st.sampled_from(NOTIFY_KEYS), mostly(WORDS_OF_SETTINGS))), max_size=2)
WHEN = st.dictionaries(
    st.one_of(st.just("price"), KEYS_OF_DICTS),
    mostly(st.dictionaries(st.sampled_from(list(OPERATORS)), GARBAGE, max_size=2)),
    max_size=2,
)
RULES = st.fixed_dictionaries(
    {"name": mostly(st.just("r")), "model": mostly(st.sampled_from(["*", "app.*", "app.Product", ["app.Tag"]]))},
    optional={
        **{key: mostly(st.lists(WORDS_OF_SETTINGS, max_size=2)) for key in RULE_KEYS if key not in ("name", "model")},
        "notify": mostly(NOTIFY),
        "when": mostly(WHEN),
        "odd": GARBAGE,
    },
)
CHANNELS = st.dictionaries(
    st.one_of(st.just("it"), KEYS_OF_DICTS),
    mostly(
        st.fixed_dictionaries(
            {"BACKEND": mostly(st.sampled_from([CALLABLE, EMAIL]))},
            optional={"OPTIONS": mostly(st.dictionaries(st.sampled_from(["to", "target", "mailer"]), GARBAGE))},
        )
    ),
    max_size=2,
)
OTHERS = {key: GARBAGE for key in KEYS if key not in ("RULES", "CHANNELS")}
SETTINGS = st.fixed_dictionaries(
    {"RULES": st.lists(mostly(RULES), max_size=3)}, optional={"CHANNELS": CHANNELS, "odd": GARBAGE, **OTHERS}
)


def survive(value: Any) -> None:
    """Check and save under the settings; nothing may raise. Another transaction is none of anybody's business."""
    with transaction.atomic(), override_settings(SIGNAL_AUDIT=value):
        for message in run_checks(tags=["signals"]):
            str(message)
        Unaudited(name="x").save()
        transaction.set_rollback(True)


@settings(max_examples=choose(20, 60), deadline=None, suppress_health_check=list(HealthCheck))
@given(GARBAGE)
@example({"RULES": {}})
def test_anything_in_place_of_the_settings(value: Any) -> None:
    survive(value)


@pytest.mark.parametrize(
    "value",
    [
        Unprintable(),
        {"RULES": [Unprintable()], "ON_ERROR": Unprintable(), Unprintable(): 3},
        {"RULES": [{"name": Unprintable(), "model": [Unprintable()], "when": {"price": Unprintable()}}]},
        {"RULES": [{"name": "r", "model": "app.Product", "when": {"price": {"to": Unprintable()}}}]},
        {"RULES": [], "CHANNELS": {"it": {"BACKEND": Unprintable(), "OPTIONS": {"to": Unprintable()}}}},
        {"RULES": [], "CHANNELS": {"it": {"BACKEND": EMAIL, "OPTIONS": {"to": Unprintable()}}}},
    ],
    ids=range(6),
)
def test_things_that_cannot_be_shown(value: Any) -> None:
    survive(value)


@settings(max_examples=choose(30, 80), deadline=None, suppress_health_check=list(HealthCheck))
@given(SETTINGS)
@example({"RULES": [{"name": "r", "model": "app.*", "when": {"name": {"increased_by": 1}}}]})
@example({"RULES": [{"name": "r", "model": "*", "when": {"label": {"to": "x"}, "code": {"crosses_above": 3}}}]})
@example({"RULES": [{"name": "r", "model": "app.Product", "when": {"attributes": {"to": {3: {4}}}}}]})
@example({"RULES": [], "MASK_KEY": "\ud800", "CHANNELS": {"it": {"BACKEND": "os.path.join", "OPTIONS": {"to": 3}}}})
@example({"RULES": [], "REPORT_FORMATS": {"x": "django.contrib.gis.db.models.Nothing"}, "DISPATCHER": "..a"})
def test_anything_in_its_places(value: Any) -> None:
    survive(value)


@settings(max_examples=choose(15, 40), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(mostly(RULES), max_size=2), st.dictionaries(st.sampled_from(RULE_KEYS[1:]), GARBAGE))
def test_a_sound_rule_is_in_force_whatever_stands_beside_it(others: list[Any], keys: dict[str, Any]) -> None:
    from .conftest import last

    beside = [*others, Rule(**{"name": "object", **keys})]
    with transaction.atomic(), override_settings(SIGNAL_AUDIT={"RULES": [*beside, SOUND], "ON_ERROR": "raise"}):
        run_checks(tags=["signals"])
        Product.objects.create(name="Oil")
        event = last()
        assert "sound" in event.rules
        assert "name" in event.changes
        transaction.set_rollback(True)
