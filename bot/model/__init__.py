"""Frozen models that are journaled or sent. One noun a module; no I/O."""
