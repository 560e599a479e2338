"""``python -m steadygrad``: the command line, also where the script isn't on the path."""

from steadygrad.cli import main

if __name__ == "__main__":
    main()
