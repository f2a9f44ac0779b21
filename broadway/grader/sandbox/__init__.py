"""Kernel limits and host resources that isolate stages, shared by all runtimes."""
