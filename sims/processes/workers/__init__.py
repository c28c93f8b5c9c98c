"""Simulated clients in forked processes, which nothing but their run can reach."""
