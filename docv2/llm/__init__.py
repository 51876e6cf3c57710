"""Asking a vision model over an OpenAI-compatible endpoint."""
