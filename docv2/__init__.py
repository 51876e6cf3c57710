"""docv2: ask a question of a document; get an answer that says what it stands on."""

__version__ = "2.0.0"
