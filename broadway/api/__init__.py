"""The whole control plane in one process, the way the original starts: ingest, dispatcher and results."""
