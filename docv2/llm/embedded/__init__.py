"""The built-in reader, behind the same HTTP interface as any endpoint."""
