"""Queries for interfaces and exports: from stored documents to domain values, free of HTTP."""
