"""Run jobs in slots, report their outcomes, and decide whether this host may take more jobs."""
