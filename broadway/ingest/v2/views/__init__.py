"""Resources made of domain values."""
