"""Sums that the server learns without any party's share of them."""
