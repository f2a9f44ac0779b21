"""The resources of API v2."""
