"""The composition root: what runs where no request is known."""
