"""Keys and output gradients at an answer's tokens; no subject, no covariance."""
