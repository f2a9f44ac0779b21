"""Queries for interfaces and exports: stored documents to values, free of HTTP."""
