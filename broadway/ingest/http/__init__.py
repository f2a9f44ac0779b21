"""HTTP support shared by all interfaces: authorization, bodies, answers, errors, the server."""
