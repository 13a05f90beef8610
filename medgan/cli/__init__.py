"""The command line: ``medgan fit``, ``medgan sample``, ``medgan archs``."""
