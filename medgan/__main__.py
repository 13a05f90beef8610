"""Run the command line with ``python -m medgan``."""

from medgan.cli.main import main

if __name__ == "__main__":
    main()
