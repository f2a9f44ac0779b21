"""The grader: takes a pool's jobs from the broker or through the API and runs their stages in containers."""
