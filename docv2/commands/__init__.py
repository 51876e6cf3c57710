"""Commands of `docv2` that are larger than a few lines."""
