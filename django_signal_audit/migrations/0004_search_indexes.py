"""Indexes by which names are found by their beginning, in whatever case."""

import django_signal_audit.models.names
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("django_signal_audit", "0003_evidence"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="auditevent",
            name="dsa_event_actor_name",
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=django_signal_audit.models.names.NameIndex(
                fields=["actor_repr", "recorded_at", "id"], name="dsa_event_actor_name"
            ),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=django_signal_audit.models.names.NameIndex(
                fields=["object_repr", "recorded_at", "id"], name="dsa_event_object_name"
            ),
        ),
    ]
