"""`python -m depthwise`."""

from depthwise.cli import main

main()
