"""`python -m api.cli`: the same as `twin`."""

from api.cli.app import main

main()
