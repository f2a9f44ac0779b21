"""Logs of jobs as resources."""

from broadway.ingest.reads.log_lines import log_lines

__all__ = ["log_lines"]
