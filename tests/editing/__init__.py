"""Laws of editing on one machine."""
