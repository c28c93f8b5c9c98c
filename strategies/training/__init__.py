"""Training a hypernetwork with the parties: what travels, and how it is summed."""
