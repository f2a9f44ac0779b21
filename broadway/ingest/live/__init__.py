"""Live positions and states of jobs for watchers of one API process."""
