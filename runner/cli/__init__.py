"""
The command line: one module per group of commands, each loaded only when it is typed.

A module gives ``add_parser(subparsers)`` per file and sets ``run``, a function from its arguments to an exit status.
"""
