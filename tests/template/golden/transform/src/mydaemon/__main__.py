"""`python -m mydaemon` does what the command `mydaemon` does."""

from mydaemon.daemon import main

if __name__ == "__main__":
    main()
