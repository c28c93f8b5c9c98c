"""Editors: how requests become statistics, and statistics a delta. One file each."""
