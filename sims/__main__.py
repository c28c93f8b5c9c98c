"""``python -m sims``: the command line."""

from sims.cli.main import main

if __name__ == "__main__":
    main()
