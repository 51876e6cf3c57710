"""Migrations of the SQLite store."""
