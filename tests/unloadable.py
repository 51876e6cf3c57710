"""A module that cannot be loaded, as a library with a missing part of the system."""

raise OSError("libmissing.so.1: cannot open shared object file")
