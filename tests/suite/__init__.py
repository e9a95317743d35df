"""
What `make test` does: it has the services, runs the groups of tests beside them, says what was shown.

Nothing here is a test of the product. A group is a row in `groups.py`; a service is a module in `tests/services`.
"""
