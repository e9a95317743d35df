"""
Runners that are killed at every stage and at random, over every service, and an account of what became of the jobs.

``make chaos ROUNDS=200`` gives every service so many rounds and prints a JSON line each; ``make test`` runs five.
"""
