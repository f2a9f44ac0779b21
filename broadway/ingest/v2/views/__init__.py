"""Functions that turn domain values into resources."""
