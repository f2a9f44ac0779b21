"""The results service: persist outcomes and advance runs."""
