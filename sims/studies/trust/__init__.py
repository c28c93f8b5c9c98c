"""What a hostile party does, and what each observer of a run learns."""
