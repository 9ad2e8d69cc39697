"""The audit log on a project's own pages: a panel, and JSON. Who may view what is the same as in the admin."""
