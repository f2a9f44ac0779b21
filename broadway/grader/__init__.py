"""The grader: take jobs of a pool, from the broker or through the API, and run their stages in containers."""
