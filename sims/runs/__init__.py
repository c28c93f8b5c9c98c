"""Runs: jobs, the engines that carry their messages, unfinished runs."""
