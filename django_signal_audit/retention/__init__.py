"""Retention: how long events are kept, and how the rest is taken away."""
