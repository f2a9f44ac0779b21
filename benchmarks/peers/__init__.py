"""Programs of other task systems. They run in an environment of their own, without Broadway."""
