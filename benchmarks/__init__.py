"""Measurements of medgan beside what else there is: `python -m benchmarks --help`."""
