"""The client app, which runs next to a party's private requests."""
