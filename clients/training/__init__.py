"""What a client answers while a hypernetwork is trained."""
