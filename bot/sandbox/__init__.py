"""A small company on one machine, on real servers: what `firedoor sandbox` and the demo start.

Nothing is imported here: the servers are separate processes, and each loads only its own part.
"""
