"""What runs beside a party's private requests."""
