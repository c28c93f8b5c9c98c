"""What travels between server and clients, and in which form."""
