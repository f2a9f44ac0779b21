"""Jobs, runs, assignments, courses and webhooks: values and rules without input or output."""
