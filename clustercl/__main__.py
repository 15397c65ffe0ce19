"""`python -m clustercl` is the `clustercl` command, also under launchers such as torchrun."""

from clustercl.cli.main import main

if __name__ == "__main__":
    main()
