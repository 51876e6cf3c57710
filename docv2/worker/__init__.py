"""Running tasks: who may start, what happens to one, and the housekeeping beside it."""
