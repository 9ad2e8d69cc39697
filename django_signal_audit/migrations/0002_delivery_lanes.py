"""Lanes: indexes to claim by channel and priority and in order, and what is known of channels that fail."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_signal_audit", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="ChannelState",
            fields=[
                (
                    "channel",
                    models.CharField(max_length=100, primary_key=True, serialize=False, verbose_name="channel"),
                ),
                ("failures", models.PositiveIntegerField(default=0, verbose_name="failures")),
                ("last_failed", models.BigIntegerField(null=True)),
                ("last_error", models.TextField(blank=True, verbose_name="last error")),
                ("openings", models.PositiveIntegerField(default=0)),
                ("since", models.DateTimeField(null=True, verbose_name="suspended since")),
                ("until", models.DateTimeField(null=True, verbose_name="suspended until")),
                ("paused_at", models.DateTimeField(null=True, verbose_name="paused since")),
            ],
            options={
                "verbose_name": "state of a channel",
                "verbose_name_plural": "states of channels",
                "default_permissions": (),
            },
        ),
        migrations.RemoveIndex(
            model_name="notification",
            name="dsa_notification_due",
        ),
        migrations.AddField(
            model_name="notification",
            name="order_key",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name="notification",
            name="order_no",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name="notification",
            name="priority",
            field=models.PositiveSmallIntegerField(db_default=2, default=2, editable=False),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(
                fields=["status", "channel", "priority", "available_at", "id"], name="dsa_notification_lane"
            ),
        ),
        migrations.AddIndex(
            model_name="notification",
            index=models.Index(fields=["order_key", "order_no"], name="dsa_notification_order"),
        ),
    ]
