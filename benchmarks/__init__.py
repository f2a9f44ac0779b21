"""How fast Broadway is, beside what people would use instead. `python -m benchmarks --list` says what is measured."""
