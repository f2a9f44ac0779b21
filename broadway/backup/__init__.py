"""Copies of all of a deployment's documents in a directory, and their return into an empty store."""
