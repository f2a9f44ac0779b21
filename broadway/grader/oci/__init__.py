"""Stages as containers of an OCI runtime, with no daemon between; a Docker Engine only gives images."""
