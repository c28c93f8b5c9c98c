"""The study of long runs: every editor, until the pool is used up."""
