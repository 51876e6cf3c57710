"""From a file of any supported type to pages."""
