"""The command line: one file per command, each a signature, a build and a call."""
