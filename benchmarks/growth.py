"""The cost of reads and of a job in a course with a long history, and a run of many students."""
