"""`python -m pipelines VERB`, the same as `sat2map VERB`."""

from pipelines.cli.main import main

if __name__ == "__main__":
    main()
