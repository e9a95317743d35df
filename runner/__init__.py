"""
One process per GPU box: takes jobs from queues, runs each sealed, stores what it made and only then settles the
message.
"""

__version__ = "0.1.0"
