"""Laws of the rounds and of what travels in them."""
