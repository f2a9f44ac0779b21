"""The store's fixtures."""

from stored import course, database, shared_place, store

__all__ = ["course", "database", "shared_place", "store"]
