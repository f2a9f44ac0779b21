"""Stages as containers of a Docker Engine: the only package that speaks Docker."""
