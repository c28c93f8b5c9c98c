"""What brings a federation up: in containers, or on hosts that one machine plays."""
