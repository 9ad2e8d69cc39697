"""What a prune leaves: states, replay and proofs are what they were."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from django_signal_audit import history_of, record
from django_signal_audit.context.scopes import suspended
from django_signal_audit.enums import ROW_EVENTS
from django_signal_audit.events.keys import object_id
from django_signal_audit.evidence.sealing import seal
from django_signal_audit.evidence.verification import Verifier
from django_signal_audit.models import AuditEvent, AuditPrune, Notification
from django_signal_audit.models.events import Signature, erase_values, signature_hash
from django_signal_audit.models.inheritance import labels_including_children
from django_signal_audit.models.state import fold
from django_signal_audit.replay.replay import Replay
from django_signal_audit.retention import ranking
from django_signal_audit.retention.holds import held_objects, hold, release
from django_signal_audit.rules.registry import get_registry

from .app.models import Category, Line, Person, Place, Product, Restaurant, Tag, Team
from .conftest import Audit, events, last
from .machine import oracle
from .plans import explain
from .processes.stage import choose
from .samples import make_event
from .test_state_machine import PROFILE, WritesInTransactions

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def everything(audit: Audit) -> None:
    audit({"name": "all", "model": "app.*"})


def prune(*arguments: str) -> str:
    out = io.StringIO()
    call_command("audit_prune", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def differences() -> list[Any]:
    return list(Replay(get_registry().plans.values(), "default").differences())


def states() -> dict[tuple[str, str, int], Any]:
    """Return the state that each event left, by model, object and event."""
    found = {}
    for model in oracle.ruled():
        rows = AuditEvent.objects.filter(model__in=labels_including_children(model), event_type__in=ROW_EVENTS)
        known: dict[str, Any] = {}
        for pk, *row in rows.order_by("id").values_list("id", "object_id", "model", "event_type", "changes"):
            values = fold(model, [tuple(row)], known)[row[0]].values
            state = None if values is None else {name: value for name, value in values.items() if value != []}
            found[model._meta.label_lower, row[0], pk] = state
    return found


def product(**values: Any) -> Product:
    """Make a product with seven events."""
    found = Product.objects.create(name="0", api_token="hunter2", **values)
    found.tags.add(Tag.objects.create(name="a"), Tag.objects.create(name="b"))
    for number in range(1, 6):
        found.name = str(number)
        found.stock = number
        found.save()
    return found


def of(found: models.Model) -> list[AuditEvent]:
    return events(model=found._meta.label_lower, object_id=str(found.pk))


def test_the_newest_of_what_goes_gives_its_id_to_a_starting_point(db: None) -> None:
    tea = product()
    before = of(tea)
    assert prune("--keep-last", "2").startswith("5 events pruned.")
    start, *rest = of(tea)
    assert [event.uid for event in rest] == [event.uid for event in before[5:]]
    assert (start.pk, start.recorded_at, start.event_type, start.source) == (
        before[4].pk,
        before[4].recorded_at,
        "baseline",
        "baseline",
    )
    assert start.uid not in {event.uid for event in before}
    assert start.changes["name"] == [None, "3"]
    assert start.changes["tags"] == {"added": [1, 2], "removed": []} or len(start.changes["tags"]["added"]) == 2
    assert start.changes["api_token"][1] == before[0].changes["api_token"][1]
    assert start.data["replaces"]["events"] == 5
    assert start.data["prune"] == str(last().uid)
    assert last().data["starting_points"] == 1
    assert differences() == []


def test_the_next_prune_replaces_the_starting_point(db: None) -> None:
    tea = product()
    for number in ("5", "4", "1", "1"):
        prune("--keep-last", number)
        assert differences() == []
    start, newest = of(tea)
    assert (start.data["replaces"]["events"], start.changes["name"]) == (6, [None, "4"])
    assert newest.changes["name"] == ["4", "5"]


def test_states_of_earlier_moments_stay_what_they_were(db: None) -> None:
    tea = product()
    moments = [event.recorded_at for event in of(tea)]
    told = [AuditEvent.objects.state_of(Product, tea.pk, at=moment) for moment in moments]
    prune("--keep-last", "2")
    assert [AuditEvent.objects.state_of(Product, tea.pk, at=moment) for moment in moments] == [None] * 4 + told[4:]
    versions = list(history_of(tea))
    assert [(version.values or {})["name"] for version in versions] == ["3", "4", "5"]


def test_what_goes_between_events_that_stay_is_summed_up(db: None) -> None:
    tea = product()
    before = states()
    gone = of(tea)
    AuditEvent.objects.filter(pk__in=[gone[3].pk, gone[4].pk]).prune()
    [summed] = [event for event in of(tea) if event.pk == gone[4].pk]
    assert summed.changes["name"] == ["1", "3"]
    after = states()
    assert after == {key: before[key] for key in after}


def test_nothing_is_left_of_what_is_gone(db: None) -> None:
    tea = product()
    key = str(tea.pk)
    tea.delete()
    assert AuditEvent.objects.filter(model="app.product").prune() == 8
    assert events(model="app.product") == []
    assert AuditEvent.objects.state_of(Product, key) is None


def test_a_deletion_stays_as_long_as_anything_before_it(db: None) -> None:
    tea = product()
    key = tea.pk
    tea.delete()
    AuditEvent.objects.filter(model="app.product").exclude(event_type="create").prune()
    assert [event.event_type for event in events(model="app.product")] == ["create", "baseline", "delete"]
    assert AuditEvent.objects.state_of(Product, key) is None
    assert differences() == []


def test_a_row_that_came_again_begins_again(db: None) -> None:
    tea = product()
    key = tea.pk
    tea.delete()
    Product.objects.create(pk=key, name="again")
    AuditEvent.objects.filter(model="app.product").prune()
    [start] = events(model="app.product")
    assert (start.changes["name"], start.event_type) == ([None, "again"], "baseline")
    assert differences() == []


def test_rows_without_a_beginning_have_none_afterwards_either(audit: Audit) -> None:
    audit({"name": "nothing", "model": "app.Team"})
    tea = Product.objects.create(name="Tea")
    audit({"name": "all", "model": "app.*"})
    tea.name = "Green tea"
    tea.save()
    before = AuditEvent.objects.state_of(Product, tea.pk)
    AuditEvent.objects.filter(model="app.product").prune()
    [start] = events(model="app.product")
    assert (start.event_type, start.source) == ("update", "baseline")
    assert AuditEvent.objects.state_of(Product, tea.pk) == before == {"name": "Green tea", "modified": tea.modified}


def test_parents_and_children_are_one_object(db: None) -> None:
    place = Place.objects.create(name="Inn")
    restaurant = Restaurant(place_ptr=place, name="Inn", stars=1)
    restaurant.save_base(raw=False)
    restaurant.stars = 2
    restaurant.save()
    for_both = [AuditEvent.objects.state_of(model, place.pk) for model in (Place, Restaurant)]
    AuditEvent.objects.filter(object_id=str(place.pk)).prune()
    assert [AuditEvent.objects.state_of(model, place.pk) for model in (Place, Restaurant)] == for_both
    assert differences() == []


def test_the_rule_keeps_a_number_of_events_of_each_object(audit: Audit) -> None:
    audit(
        {"name": "few", "model": "app.Product", "retention": {"last": 2}},
        {"name": "names", "model": "app.Category", "retention": "365d"},
    )
    tea, coffee = product(), product()
    Category.objects.create(name="Hot")
    assert prune() == "10 events pruned.\n"
    assert [len(of(one)) for one in (tea, coffee)] == [3, 3]
    assert prune() == "0 events pruned.\n"
    assert differences() == []


def test_the_longest_promise_counts(audit: Audit) -> None:
    audit(
        {"name": "few", "model": "app.Product", "fields": ["name", "stock"], "retention": {"last": 1}},
        {"name": "ever", "model": "app.Product", "fields": ["name"], "events": ["update"]},
    )
    tea = product()
    assert prune() == "1 event pruned.\n"
    assert [event.event_type for event in of(tea)] == ["baseline", *["update"] * 5]
    audit(
        {"name": "few", "model": "app.Product", "fields": ["name", "stock"], "retention": {"last": 4}},
        {"name": "ever", "model": "app.Product", "fields": ["name"], "events": ["update"], "retention": {"last": 2}},
    )
    assert prune() == "1 event pruned.\n"
    assert prune("--keep-last", "1") == "0 events pruned.\n"


def test_a_number_and_an_age_have_to_hold_both(db: None) -> None:
    tea = product()
    assert prune("--keep-last", "1", "--older-than", "1d") == "0 events pruned.\n"
    with pytest.raises(CommandError, match="--keep-last must be 1 or more"):
        prune("--keep-last", "0")
    with pytest.raises(CommandError):
        call_command("audit_prune", "--keep-last", "many")
    assert prune("--keep-last", "3", "--dry-run") == "4 events would be pruned.\n"
    assert len(of(tea)) == 7


def test_one_rule_alone_is_pruned(audit: Audit) -> None:
    tea = product()
    assert prune("--keep-last", "1", "--rule", "all") == "6 events pruned.\n"
    assert len(of(tea)) == 2


def test_batches_leave_one_starting_point_for_each_object(db: None) -> None:
    made = [product() for _ in range(3)]
    assert prune("--keep-last", "2", "--batch-size", "4") == "15 events pruned.\n"
    assert [len(of(one)) for one in made] == [3, 3, 3]
    assert differences() == []


def test_a_batch_does_not_split_an_object_that_fits_into_it(db: None) -> None:
    made = [product() for _ in range(3)]
    assert prune("--keep-last", "2", "--batch-size", "8") == "15 events pruned.\n"
    assert [event.data["count"] for event in events(event_type="events_pruned")] == [5, 5, 5]
    assert [of(one)[0].data["replaces"]["events"] for one in made] == [5, 5, 5]


@pytest.mark.parametrize("at_once", [1, 7, 8, 15, 5000])
@pytest.mark.parametrize("page", [1, 3, 1000])
@pytest.mark.parametrize("by_rule", [False, True])
def test_however_many_events_are_read_at_once(
    audit: Audit, monkeypatch: pytest.MonkeyPatch, at_once: int, page: int, by_rule: bool
) -> None:
    monkeypatch.setattr(ranking, "_EVENTS", at_once)
    monkeypatch.setattr(ranking, "_PAGE", page)
    if by_rule:
        audit({"name": "all", "model": "app.*"}, {"name": "few", "model": "app.Product", "retention": {"last": 2}})
    made = [product() for _ in range(3)]
    few = Category.objects.create(name="Hot")
    before = [of(one)[-2:] for one in made]
    assert prune("--keep-last", "2") == "15 events pruned.\n"
    assert [of(one)[1:] for one in made] == before
    assert [of(one)[0].changes["stock"] for one in made] == [[None, 3]] * 3
    assert len(of(few)) == 1
    assert prune("--keep-last", "2") == "0 events pruned.\n"
    assert differences() == []


def test_more_objects_cost_no_more_statements(db: None) -> None:
    counts = []
    for number in (2, 12):
        for _ in range(number):
            product()
        with CaptureQueriesContext(connection) as queries:
            assert prune("--keep-last", "2") == f"{5 * number} events pruned.\n"
        counts.append(len(queries))
    # The second prune looks at the starting points of the first one, too.
    assert counts[1] <= counts[0] + 2


@pytest.mark.skipif(connection.vendor != "postgresql", reason="reads by cursors, which it plans for the first rows")
def test_a_batch_reads_the_events_of_its_objects_alone(db: None) -> None:
    number = known_signature()
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {AuditEvent._meta.db_table} (uid, recorded_at, event_type, source, level, rules, model,"
            " object_id, object_repr, actor_id, actor_repr, changes, data, context, correlation_id, signature)"
            " SELECT gen_random_uuid(), now(), 'update', 'orm', 'info', '[\"all\"]', 'app.tag', (n %% 400)::text, '',"
            " '', '', '{\"name\": [\"a\", \"b\"]}', '{}', '{}', '', %s FROM generate_series(1, 20000) n ORDER BY n",
            [number],
        )
        cursor.execute(f"ANALYZE {AuditEvent._meta.db_table}")
    with CaptureQueriesContext(connection) as queries:
        call_command("audit_prune", "--keep-last", "10", "--batch-size", "400", verbosity=0, stdout=io.StringIO())
    [sql, *_] = [one["sql"] for one in queries if one["sql"].startswith("DECLARE") and "changes" in one["sql"]]
    plan = "".join(line for (line,) in explain(sql, "EXPLAIN"))
    assert "dsa_event_object" in plan


def known_signature() -> int:
    """Return the number of the signature of an update of a tag by the rule of these tests."""
    return signature_hash(Signature("update", "info", "app.tag", ("all",)))


def test_what_is_waited_for_stays(db: None) -> None:
    tea = product()
    Notification.objects.create(event=of(tea)[2].uid, rule="r", channel="c", status="pending")
    assert prune("--keep-last", "2") == (
        "4 events pruned.\n1 event is kept until its notifications are sent or dead.\n"
    )
    assert differences() == []


def test_events_of_objects_on_hold_stay(db: None) -> None:
    tea, coffee = product(), product()
    assert hold(Product, tea.pk, "Case 7")
    assert not hold(Product, tea.pk, "Case 7 again")
    assert last().data == {"reason": "Case 7"}
    assert prune("--keep-last", "2") == "5 events pruned.\n6 events are kept by a legal hold.\n"
    assert len(of(tea)) == 8
    assert AuditEvent.objects.filter(model="app.product").prune() == 2
    assert (len(of(tea)), len(of(coffee))) == (8, 1)
    assert release(Product, tea.pk, "Case closed")
    assert not release(Product, tea.pk, "Case closed")
    assert prune("--keep-last", "2").startswith("7 events pruned.")


def test_the_hold_of_a_parent_keeps_the_events_of_the_child(db: None) -> None:
    inn = Restaurant.objects.create(name="Inn")
    hold(Place, inn.pk, "Case 8")
    assert AuditEvent.objects.filter(model="app.restaurant").prune() == 0


def test_the_command_holds_what_has_events_or_a_row(db: None) -> None:
    inn = Restaurant.objects.create(name="Inn")
    key = str(inn.pk)
    inn.delete()
    call_command("audit_hold", "app.Place", key, stdout=io.StringIO())
    with suspended():
        line = Line.objects.create(order=1, number=2)
    call_command("audit_hold", "app.Line", "[1, 2]", stdout=io.StringIO())
    assert {("app.place", key), ("app.line", object_id(line.pk))} <= set(held_objects("default"))


def test_the_command_holds_lists_and_releases(db: None) -> None:
    tea = product()
    key = str(tea.pk)
    tea.delete()

    def said(*arguments: str) -> str:
        out = io.StringIO()
        call_command("audit_hold", *arguments, stdout=out)
        return out.getvalue()

    assert said() == "No object is on hold.\n"
    assert said("app.Product", key, "--reason", "Case 7", "--actor", "lawyer") == f"app.product {key} is on hold.\n"
    assert (last().actor_repr, last().context["command"]) == ("lawyer", "audit_hold")
    assert said() == f"app.product {key}: Case 7\n"
    assert said("app.Product", key, "--reason", "again") == f"app.product {key} is on hold already.\n"
    with pytest.raises(CommandError, match="on legal hold"):
        call_command("audit_erase", "--subject", "app.Product", key)
    assert said("app.Product", key, "--release") == f"app.product {key} is released.\n"
    assert said("app.Product", key, "--release") == f"app.product {key} isn't on hold.\n"
    for arguments in (("app.Prodct", "1"), ("app.Product",), ("app.Product", "1", "--database", "nowhere")):
        with pytest.raises(CommandError):
            said(*arguments)
    with pytest.raises(CommandError, match=r"^There is no app\.Product '987654', and no event of it\.$"):
        said("app.Product", "987654", "--reason", "a typing error")
    for command in ("audit_hold", "audit_erase"):
        subject = ["--subject"] if command == "audit_erase" else []
        with pytest.raises(CommandError, match=r"^No app\.Product can have the primary key '7x'\. It is of: id \("):
            call_command(command, *subject, "app.Product", "7x")
        with pytest.raises(CommandError, match=r"^There is no model 'app\.Prodct'\. Did you mean 'app\.Product'\?$"):
            call_command(command, *subject, "app.Prodct", "7")
    assert held_objects("default") == {}


class TestEvidence:
    def verified(self) -> tuple[list[str], int]:
        seal("default")
        verifier = Verifier("default")
        kinds = [finding.kind for finding in verifier.findings()]
        return kinds, verifier.verdict.pruned

    @pytest.fixture
    def tea(self) -> Product:
        """Make a product whose events are old and sealed."""
        tea = product()
        for age, event in enumerate(reversed(events())):
            moment = timezone.now() - dt.timedelta(days=9 * age)
            erase_values(AuditEvent.objects.filter(pk=event.pk), {"recorded_at": moment})
        seal("default")
        return tea

    def test_starting_points_are_sealed_and_no_backdated_events(self, tea: Product) -> None:
        prune("--keep-last", "2")
        assert self.verified() == ([], 5)
        prune("--keep-last", "1")
        assert self.verified() == ([], 7)
        AuditEvent.objects.filter(model="app.product").prune()
        assert self.verified()[0] == []
        assert differences() == []

    def test_one_that_no_prune_left_is_backdated(self, tea: Product) -> None:
        prune("--keep-last", "2")
        real = of(tea)[0]
        make_event(
            id=real.pk - 1,
            event_type="baseline",
            source="baseline",
            recorded_at=real.recorded_at,
            data=real.data,
            changes={"name": [None, "forged"]},
        )
        seal("default", is_full=True)
        assert [finding.kind for finding in Verifier("default").findings()] == ["backdated"]

    def test_a_list_of_starting_points_that_was_changed_is_not_believed(self, tea: Product) -> None:
        prune("--keep-last", "2")
        seal("default")
        note = AuditPrune.objects.get()
        AuditPrune.objects.filter(pk=note.pk).update(starts="[]")
        assert {finding.kind for finding in Verifier("default").findings()} == {"backdated", "prune", "deleted"}


class PrunedWrites(WritesInTransactions):
    """Random writes, with prunes of random events between them."""

    @rule(data=st.data(), share=st.integers(1, 4))
    def prune(self, data: Any, share: int) -> None:
        """Prune some events, or all older than one."""
        before = states()
        ids = sorted(pk for _, _, pk in before)
        if not ids:
            return
        # A sequence goes on where the last example left it: which events are pruned is not to depend on that.
        bound = data.draw(st.integers(0, 10_000)) % len(ids)
        with transaction.atomic():
            wanted = [pk for place, pk in enumerate(ids[: bound + 1]) if place % share == 0]
            AuditEvent.objects.filter(pk__in=wanted).prune()
        after = states()
        assert after == {key: before[key] for key in after}
        now = {key[:2]: before[key] for key in sorted(before, key=lambda key: key[2])}
        assert {key: state for key, state in now.items() if state is not None} == {
            key: state
            for key, state in {key[:2]: after[key] for key in sorted(after, key=lambda key: key[2])}.items()
            if state is not None
        }

    @invariant()
    def the_trail_replays(self) -> None:
        """Compare the audit log with the tables."""
        assert differences() == []

    def teardown(self) -> None:
        """Leave nothing."""
        self.replays = False
        super().teardown()


@pytest.mark.slow
@pytest.mark.server
def test_random_prunes_between_random_writes(db: None) -> None:
    run_state_machine_as_test(PrunedWrites, settings=settings(PROFILE, max_examples=choose(2, 20)))


def test_custom_events_of_an_object_count_and_leave_nothing(db: None) -> None:
    team = Team.objects.create(name="t")
    for number in range(4):
        record("inspected", team, data={"number": number})
    assert prune("--keep-last", "2") == "3 events pruned.\n"
    assert [event.event_type for event in of(team)] == ["baseline", "inspected", "inspected"]
    assert Person.objects.count() == 0
