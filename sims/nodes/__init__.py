"""What guards a node: the proxy before its server, and the checks of its operator."""
