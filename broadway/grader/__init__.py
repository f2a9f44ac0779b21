"""The grader: takes jobs of its pool from the broker and runs their stages in containers."""
