"""Resources of API v2: response and request bodies, for the server and its clients."""
