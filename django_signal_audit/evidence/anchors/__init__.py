"""Anchors: where checkpoints are published, so that a rewritten history contradicts what others hold."""
