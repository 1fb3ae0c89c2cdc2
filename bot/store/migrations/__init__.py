"""Alembic's migrations. A landed one is never edited; a change of the schema is a new one."""
