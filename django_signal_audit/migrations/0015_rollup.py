"""The counts of events that are kept for the dashboard."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('django_signal_audit', '0014_notification_tenant'),
    ]

    operations = [
        migrations.CreateModel(
            name='Rollup',
            fields=[
                ('key', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('number', models.BigIntegerField(default=0)),
                ('asked_on', models.DateField(null=True)),
                ('scope', models.JSONField(default=dict)),
                ('base', models.BinaryField(default=b'')),
                ('recent', models.BinaryField(default=b'')),
            ],
            options={
                'verbose_name': 'roll-up',
                'verbose_name_plural': 'roll-ups',
                'default_permissions': (),
            },
        ),
    ]
