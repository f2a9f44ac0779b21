"""Use cases of ingest, free of HTTP."""
