"""Speaking OpenID Connect: the description of a provider, its keys, and the check of its ID tokens."""
