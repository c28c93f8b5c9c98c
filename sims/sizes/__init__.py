"""What a run will send, hold and write, from shapes alone."""
