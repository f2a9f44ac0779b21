"""Use cases that all services share: they move jobs and runs from state to state."""
