"""The database: SQLAlchemy tables, the mapping to models, Alembic migrations."""

from bot.store.files import FolderFiles
from bot.store.store import SqlStore

__all__ = ["FolderFiles", "SqlStore"]
