"""Logs, metrics and audit: a leaf that anyone may import."""
