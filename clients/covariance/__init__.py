"""A party's part in the covariance: its texts' moments, and its own prior."""
