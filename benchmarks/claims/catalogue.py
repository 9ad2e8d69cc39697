"""The claims in the order of the table's rows, by section."""

from __future__ import annotations

from . import uses, whole, writes
from .trying import Claim

SECTIONS: dict[str, dict[str, Claim]] = {
    "What is recorded": {
        "`save()` of a new and of a loaded instance": writes.created_and_saved,
        "Writes in commands, tasks and the shell, without a wrapper": writes.without_a_block,
        "`delete()` of an instance": writes.deleted,
        "`QuerySet.update()`": writes.updated_by_queryset,
        "`QuerySet.delete()`": writes.deleted_by_queryset,
        "`bulk_create()`": writes.created_in_bulk,
        "`bulk_update()`": writes.updated_in_bulk,
        "Rows deleted by cascade": writes.deleted_by_cascade,
        "Values changed by `SET_NULL`": writes.set_null,
        "An m2m change from the side of the field": writes.m2m_forward,
        "An m2m change from the other side": writes.m2m_reverse,
        "`clear()` of an m2m field, with the objects removed": writes.m2m_cleared,
        "Rows of fixtures": writes.fixture,
        "`save()` of an instance built with an existing primary key": writes.saved_by_hand,
        "Raw SQL": writes.raw_sql,
        "Logins": uses.logins,
    },
    "Whether the record is true": {
        "`F()` expressions are recorded as the value": writes.expressions,
        "`save(update_fields=…)` records only what was saved": writes.update_fields,
        "The old value is the row's, even if the instance was stale": writes.stale_instance,
        "A JSON value changed in place is recorded": writes.changed_in_place,
        "A save that changes nothing records nothing": writes.nothing_changed,
        "A change that rolls back leaves no record": whole.rolled_back,
        "A savepoint that rolls back leaves no record": whole.savepoint_rolled_back,
        "A save that fails in autocommit mode leaves no record": whole.failed_save,
        "A process killed in autocommit mode leaves both change and record, or neither": whole.killed,
        "Records outlive the content type of their model": whole.content_type_removed,
    },
    "Who acted": {
        "The user of the request": whole.actor_of_request,
        "A user authenticated inside the view, as by REST framework": whole.actor_inside_view,
        "The record names the user after their account is deleted": whole.actor_deleted,
    },
    "Secrets": {
        "A recorded field named `password` isn't stored in clear": whole.password_hidden,
        "A field can be masked": whole.masked,
        "A field can be left out": whole.left_out,
    },
    "Set-up and cost": {
        "Settings are enough: no model is edited": uses.settings_only,
        "A model can be registered in code, beside its definition": uses.in_code,
        "No table and no migration per audited model": uses.no_table_per_model,
        "Needs no package besides Django": uses.no_other_packages,
        "`only()` and `defer()` still load in one statement": writes.loading,
        "Saving a partly loaded instance loads nothing more": writes.partly_loaded,
        "Deleting rows of other models still takes one statement": writes.unaudited_deletion,
    },
    "What you can do with it": {
        "Notify people of a change": uses.notifies,
        "Restore an earlier version in code": uses.restored,
        "Restore a deleted object in code": uses.deleted_restored,
        "Restore an earlier version in the admin": uses.restored_in_admin,
        "Read the state of an object at a time": uses.state_at,
        "Query a whole table as it was at a time": uses.table_at,
        "Filter versions by the value of a field, in typed columns": uses.filtered_by_value,
        "List all records in the admin": uses.listed_in_admin,
        "Search them by any word in the admin": uses.found_in_admin,
        "Delete old records by a command": uses.prunes,
    },
}
