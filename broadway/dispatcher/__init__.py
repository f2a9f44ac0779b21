"""The dispatcher service: it paces jobs fairly between courses and repairs lost work."""
