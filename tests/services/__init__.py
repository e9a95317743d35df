"""
Private instances of the real services that tests talk to.

Each service is one module with one constant `SERVICE`, listed in `table.py`. An instance lives in a directory of its
own, listens on a socket or a free loopback port there, and is gone, with all that it wrote, when its context is left.
An instance that already runs on the machine is never touched. Tests find the instances through environment variables
and skip, with the reason, where one is absent.
"""
