"""Where uploaded documents lie: bytes in, bytes out, delete."""
