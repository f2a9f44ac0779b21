"""Use cases that move jobs and runs from state to state, shared by all services."""
