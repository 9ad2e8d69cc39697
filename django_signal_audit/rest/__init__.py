"""A REST API of the audit log and of a user's notifications: the extra ``drf``."""
