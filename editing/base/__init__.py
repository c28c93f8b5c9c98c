"""Shared by all packages: input errors, settings classes, foreign text made safe."""
