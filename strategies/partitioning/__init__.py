"""Requests partitioned across parties, with planted overlap and conflict."""
