"""One machine: a private broker, store and container engine, as supervised child processes."""
