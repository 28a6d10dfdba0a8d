"""`python -m h2q` is `h2q`."""

from h2q.cli.main import main

if __name__ == "__main__":
    main()
