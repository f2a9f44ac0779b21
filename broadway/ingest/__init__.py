"""The ingest service: accept submissions over HTTP, store them, publish their jobs, and serve reads."""
