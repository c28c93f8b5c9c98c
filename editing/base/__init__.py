"""What every room builds on: input errors, settings classes, foreign text made safe."""
