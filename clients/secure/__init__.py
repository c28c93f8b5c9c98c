"""A party's part in secure sums: its keys, its masks, and what it refuses."""
