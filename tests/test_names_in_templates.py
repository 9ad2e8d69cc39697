"""Names in subjects and messages that would be shown as nothing, with what ``check`` proposes."""

from __future__ import annotations

from typing import Any

import pytest

from django_signal_audit.checks import check_rules

from .notices import calling


def found(settings: Any, text: str, key: str = "message", **rule: Any) -> list[tuple[str, str, str]]:
    settings.SIGNAL_AUDIT = {
        "RULES": [{"name": "r", "model": "app.Product", "notify": ["it"], key: text, **rule}],
        "CHANNELS": {"it": calling("take")},
    }
    return [(str(item.id)[-4:], item.msg, item.hint or "") for item in check_rules()]


@pytest.mark.parametrize(
    ("text", "code", "shown", "hint"),
    [
        ("{{ instance.name }}", "W035", "instance.name", "Did you mean 'object'?"),
        ("{{ actr }}", "W035", "actr", "Did you mean 'actor'?"),
        ("{{ objct }}", "W035", "objct", "Did you mean 'object'?"),
        ("{{ user }}", "W035", "user", "Did you mean 'actor'?"),
        ("{{ request.user }}", "W035", "request.user", "Did you mean 'actor'?"),
        ("{{ price }}", "W035", "price", "Write new.price or old.price."),
        ("{{ changes }}", "W035", "changes", "Did you mean 'event.changes'?"),
        ("{{ object.name }}", "W035", "object.name", "Write new.name or old.name."),
        ("{{ object.nme }}", "W035", "object.nme", "Write object alone."),
        ("{{ object.pk }}", "W035", "object.pk", "Write event.object_id."),
        ("{{ actor.email }}", "W035", "actor.email", "Write actor alone."),
        ("{{ event.typ }}", "W035", "event.typ", "Did you mean 'event_type'?"),
        ("{{ event.user }}", "W035", "event.user", "Did you mean 'actor_repr'?"),
        ("{{ event.timestamp }}", "W035", "event.timestamp", "Did you mean 'recorded_at'?"),
        ("{{ events.0.typ }}", "W035", "events.0.typ", "Did you mean 'event_type'?"),
        ("{{ events.typ }}", "W035", "events.typ", "Write events.0.typ, or a loop over events."),
        ("{{ rule.nme }}", "W035", "rule.nme", "Did you mean 'name'?"),
        ("{{ new.category.name }}", "W035", "new.category.name", "Write new.category alone."),
        ("{{ new.prise }}", "W008", "new.prise", "Did you mean 'price'?"),
        ("{{ new.prise|default:old.price }}", "W008", "new.prise", "Did you mean 'price'?"),
        ("{{ new.price|default:old.prise }}", "W008", "old.prise", "Did you mean 'price'?"),
        ("{% if new.prise %}x{% endif %}", "W008", "new.prise", "Did you mean 'price'?"),
        ("{% if new.price > old.prise and 1 %}x{% endif %}", "W008", "old.prise", "Did you mean 'price'?"),
        ("{% if not actr %}x{% endif %}", "W035", "actr", "Did you mean 'actor'?"),
        ("{% if 0 %}{% elif actr %}x{% else %}{{ object }}{% endif %}", "W035", "actr", "Did you mean 'actor'?"),
        ("{% with p=new.prise %}{{ p }}{% endwith %}", "W008", "new.prise", "Did you mean 'price'?"),
        ("{% with e=event %}{{ e.typ }}{% endwith %}", "W035", "e.typ", "Did you mean 'event_type'?"),
        ("{% for e in events %}{{ e.typ }}{% endfor %}", "W035", "e.typ", "Did you mean 'event_type'?"),
        ("{% for e in evnts %}{{ e }}{% endfor %}", "W035", "evnts", "Did you mean 'events'?"),
        ("{% for e in events %}{{ e }}{% empty %}{{ actr }}{% endfor %}", "W035", "actr", "Did you mean 'actor'?"),
        ("{% for e in events %}{{ e }}{% endfor %}{{ e }}", "W035", "e", ""),
        ("{{ forloop.counter }}", "W035", "forloop.counter", ""),
        ("{% blocktranslate %}By {{ actr }}{% endblocktranslate %}", "W035", "actr", "Did you mean 'actor'?"),
        (
            "{% blocktranslate %}Now {{ new.price }}{% endblocktranslate %}",
            "W035",
            "new.price",
            "Write {% blocktranslate with price=new.price %} and {{ price }} inside.",
        ),
        ("{% blocktranslate with p=new.prise %}{{ p }}{% endblocktranslate %}", "W008", "new.prise", "'price'"),
        ("{% filter upper %}{{ actr }}{% endfilter %}", "W035", "actr", "Did you mean 'actor'?"),
        ("{% firstof actr object %}", "W035", "actr", "Did you mean 'actor'?"),
        ("{% translate actr %}", "W035", "actr", "Did you mean 'actor'?"),
        ("{% widthratio new.prise 1 100 %}", "W008", "new.prise", "Did you mean 'price'?"),
        ("{% ifchanged actr %}x{% endifchanged %}", "W035", "actr", "Did you mean 'actor'?"),
        ("{% spaceless %}{{ actr }}{% endspaceless %}", "W035", "actr", "Did you mean 'actor'?"),
    ],
)
def test_a_name_that_is_none(settings: Any, text: str, code: str, shown: str, hint: str) -> None:
    ((found_code, message, found_hint),) = found(settings, text)
    assert found_code == code
    assert f"{{{{ {shown} }}}}, but " in message
    assert hint in found_hint


@pytest.mark.parametrize(
    "text",
    [
        "{{ object }} {{ actor|default:'nobody' }} {{ rule.name }} {{ rule.level|upper }}",
        "{{ old.price }} {{ new.price|floatformat:2 }} {{ new.tags.0 }} {{ new.items }} {{ new.attributes.a.b }}",
        "{{ event.event_type }} {{ event.recorded_at|date:'c' }} {{ event.context.reason }} {{ event.data.any }}",
        "{{ event.changes.price.0 }} {{ event.get_level_display }} {{ event.old.price }} {{ events|length }}",
        "{% for e in events %}{{ forloop.counter }} {{ e.object_repr }}{{ forloop.parentloop }}{% endfor %}",
        "{% for name, pair in event.changes.items %}{{ name }}: {{ pair.0 }}{% endfor %}",
        "{% for name in new %}{{ name.whatever }}{% endfor %}",
        "{% with p=new.price e=event %}{{ p }} {{ e.event_type }}{% endwith %}",
        "{% with total=events|length %}{{ total }}{% endwith %}",
        "{% blocktranslate with p=new.price %}{{ p }} {{ object }}{% endblocktranslate %}",
        "{% blocktranslate count n=events|length %}{{ n }} event{% plural %}{{ n }} events{% endblocktranslate %}",
        "{% now 'Y' as year %}{{ year }} {% cycle 'a' 'b' as row %}{{ row }}",
        "{% translate 'Price' as label %}{{ label }} {% get_current_language as lang %}{{ lang }}",
        "{% regroup events by event_type as kinds %}{% for kind in kinds %}{{ kind.grouper }}{% endfor %}",
        "{% filter upper %}{{ object }}{% endfilter %}{% if object and None or True %}x{% endif %}",
        "{{ object.upper }} {{ actor.title }} {{ object.0 }} {{ 'text' }} {% verbatim %}{{ x }}{% endverbatim %}",
        "{% comment %}{{ anything }}{% endcomment %}{# {{ anything }} #}",
        "{% if event.level == 'critical' %}!{% endif %}{% if 'x' in object %}x{% endif %}",
    ],
)
def test_names_that_are_right(settings: Any, text: str) -> None:
    assert found(settings, text) == []


def test_each_name_is_named_once_and_where(settings: Any) -> None:
    messages = found(settings, "{{ actr }} {{ actr }} {{ objct }}", "subject")
    assert [message.partition(" uses ")[0] for _, message, _ in messages] == ['SIGNAL_AUDIT["RULES"][0]["subject"]'] * 2
    notify = [{"channel": "it", "message": "{{ actr }}"}]
    ((_, message, _),) = found(settings, "", notify=notify)
    assert message.startswith('SIGNAL_AUDIT["RULES"][0]["notify"][0]["message"]')


def test_a_rule_without_a_model_may_show_any_field(settings: Any) -> None:
    assert found(settings, "{{ new.anything }} {{ event.data.x }}", model="", events=["sent"]) == []
    assert [code for code, *_ in found(settings, "{{ actr }}", model="", events=["sent"])] == ["W035"]


def test_a_field_of_one_of_several_models_is_right(settings: Any) -> None:
    assert found(settings, "{{ new.price }} {{ new.stars }}", model=["app.Product", "app.Restaurant"]) == []
