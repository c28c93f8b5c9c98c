"""What a run needs, looked for without loading anything large."""
