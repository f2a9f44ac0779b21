"""Task systems that people would use instead. These programs run in an environment of their own, without Broadway."""
