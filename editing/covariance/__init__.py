"""The covariance of keys over plain text: estimated, cached, read from files."""
