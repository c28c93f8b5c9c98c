"""``python -m sims``: the command line."""

from sims.commands import main

if __name__ == "__main__":
    main()
