"""Pages for people: staff, students and operators, rendered here, beside the interfaces for programs."""
