"""The control plane in one process, started as the original is: ingest, dispatcher, results and notifier."""
