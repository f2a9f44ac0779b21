"""Stages as containers of a Docker Engine: the only package that uses Docker's API."""
