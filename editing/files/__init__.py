"""Files written atomically, and read with clear errors."""
