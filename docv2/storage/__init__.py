"""Where uploads lie: bytes in, bytes out, delete."""
