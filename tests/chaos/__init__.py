"""Chaos: real processes are killed, stopped and cut off, and what is left is checked."""
