"""Fuzzing of what reads files that people write: see ``__main__``."""
