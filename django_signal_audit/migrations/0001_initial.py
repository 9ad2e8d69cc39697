"""The tables of audit events, notifications and throttles."""

import django.utils.timezone
import django_signal_audit.events.keys
import django_signal_audit.models.events
import django_signal_audit.models.notifications
import model_utils.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Throttle",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("moments", models.JSONField(default=list)),
            ],
            options={
                "verbose_name": "throttle",
                "verbose_name_plural": "throttles",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="AuditEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "uid",
                    models.UUIDField(
                        default=django_signal_audit.events.keys.new_uid, editable=False, unique=True, verbose_name="uid"
                    ),
                ),
                (
                    "recorded_at",
                    models.DateTimeField(default=django_signal_audit.models.events.utc_now, verbose_name="recorded at"),
                ),
                ("event_type", models.CharField(max_length=100, verbose_name="event")),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("orm", "object"),
                            ("bulk", "bulk"),
                            ("cascade", "cascade"),
                            ("signal", "signal"),
                            ("manual", "manual"),
                            ("baseline", "baseline"),
                        ],
                        max_length=10,
                        verbose_name="source",
                    ),
                ),
                (
                    "level",
                    models.CharField(
                        choices=[("info", "info"), ("warning", "warning"), ("critical", "critical")],
                        default="info",
                        max_length=10,
                        verbose_name="level",
                    ),
                ),
                ("rules", models.JSONField(default=list, verbose_name="rules")),
                ("model", models.CharField(blank=True, max_length=150, verbose_name="model")),
                ("object_id", models.CharField(blank=True, max_length=255, verbose_name="object id")),
                ("object_repr", models.CharField(blank=True, max_length=255, verbose_name="object")),
                ("actor_id", models.CharField(blank=True, max_length=255, verbose_name="actor id")),
                ("actor_repr", models.CharField(blank=True, max_length=255, verbose_name="actor")),
                ("changes", models.JSONField(default=dict, verbose_name="changes")),
                ("data", models.JSONField(default=dict, verbose_name="data")),
                ("context", models.JSONField(default=dict, verbose_name="context")),
                ("correlation_id", models.CharField(blank=True, max_length=64, verbose_name="correlation id")),
                ("signature", django_signal_audit.models.events.SignatureField(editable=False)),
            ],
            options={
                "verbose_name": "audit event",
                "verbose_name_plural": "audit events",
                "ordering": ["-id"],
                "default_permissions": ("view",),
                "permissions": [("revert_auditevent", "Can revert changes")],
                "indexes": [
                    models.Index(fields=["model", "object_id", "id"], name="dsa_event_object"),
                    models.Index(fields=["recorded_at", "id"], name="dsa_event_recorded_at"),
                    models.Index(fields=["signature", "recorded_at", "id"], name="dsa_event_signature"),
                    models.Index(fields=["actor_id", "recorded_at", "id"], name="dsa_event_actor"),
                    models.Index(fields=["actor_repr", "recorded_at", "id"], name="dsa_event_actor_name"),
                    models.Index(fields=["correlation_id", "recorded_at", "id"], name="dsa_event_correlation"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                (
                    "created",
                    model_utils.fields.AutoCreatedField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                (
                    "modified",
                    model_utils.fields.AutoLastModifiedField(
                        default=django.utils.timezone.now, editable=False, verbose_name="modified"
                    ),
                ),
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("event", models.UUIDField(blank=True, null=True, verbose_name="event")),
                ("rule", models.CharField(max_length=100, verbose_name="rule")),
                ("channel", models.CharField(max_length=100, verbose_name="channel")),
                ("recipient", models.CharField(blank=True, max_length=255, verbose_name="recipient")),
                (
                    "entry",
                    models.CharField(blank=True, default="", editable=False, max_length=255, verbose_name="entry"),
                ),
                ("user", models.CharField(blank=True, default="", editable=False, max_length=255, verbose_name="user")),
                (
                    "address",
                    models.CharField(blank=True, default="", editable=False, max_length=255, verbose_name="address"),
                ),
                (
                    "level",
                    models.CharField(
                        choices=[("info", "info"), ("warning", "warning"), ("critical", "critical")],
                        default="info",
                        editable=False,
                        max_length=10,
                        verbose_name="level",
                    ),
                ),
                (
                    "status",
                    model_utils.fields.StatusField(
                        choices=[
                            ("pending", "pending"),
                            ("claimed", "claimed"),
                            ("sent", "sent"),
                            ("failed", "failed"),
                            ("dead", "dead"),
                            ("skipped", "skipped"),
                        ],
                        default="pending",
                        max_length=10,
                        no_check_for_status=True,
                        verbose_name="status",
                    ),
                ),
                (
                    "status_changed",
                    model_utils.fields.MonitorField(
                        default=django.utils.timezone.now, monitor="status", verbose_name="status changed"
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0, verbose_name="attempts")),
                (
                    "available_at",
                    models.DateTimeField(
                        default=django_signal_audit.models.events.utc_now, verbose_name="available at"
                    ),
                ),
                ("sent_at", models.DateTimeField(blank=True, null=True, verbose_name="sent at")),
                ("seen_at", models.DateTimeField(blank=True, null=True, verbose_name="seen at")),
                ("read_at", models.DateTimeField(blank=True, null=True, verbose_name="read at")),
                ("last_error", models.TextField(blank=True, verbose_name="last error")),
                (
                    "message_id",
                    models.CharField(
                        default=django_signal_audit.models.notifications.new_message_id,
                        max_length=64,
                        verbose_name="message id",
                    ),
                ),
                ("lease_no", models.PositiveIntegerField(default=0, editable=False)),
                (
                    "throttle",
                    models.CharField(blank=True, default="", editable=False, max_length=100, verbose_name="throttle"),
                ),
                ("is_admitted", models.BooleanField(default=False, editable=False)),
                (
                    "digest_window",
                    models.CharField(
                        blank=True, default="", editable=False, max_length=100, verbose_name="digest window"
                    ),
                ),
                ("generation", models.PositiveIntegerField(default=0, editable=False)),
                ("digest_key", models.CharField(blank=True, default="", editable=False, max_length=64)),
                ("data", models.JSONField(blank=True, default=dict, verbose_name="data")),
            ],
            options={
                "verbose_name": "notification",
                "verbose_name_plural": "notifications",
                "ordering": ["-id"],
                "default_permissions": ("view", "change"),
                "indexes": [
                    models.Index(fields=["status", "available_at", "id"], name="dsa_notification_due"),
                    models.Index(fields=["recipient", "channel", "id"], name="dsa_notification_recipient"),
                    models.Index(fields=["event"], name="dsa_notification_event"),
                    models.Index(fields=["digest_key"], name="dsa_notification_digest"),
                ],
            },
        ),
    ]
