"""Running a study: orders, worker processes, and what is kept of a stopped one."""
