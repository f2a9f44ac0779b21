"""The notifier: it sends events of courses to the endpoints that their staff has registered."""
