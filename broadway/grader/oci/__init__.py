"""Stages as containers of an OCI runtime, without a daemon; a Docker Engine provides images and network stages."""
