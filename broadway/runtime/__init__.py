"""Support code of every process: metrics, health, cancellation, batching, TLS and fault injection."""
