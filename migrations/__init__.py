"""SQL migrations, as data."""
