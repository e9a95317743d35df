"""A world in memory: fake ports that keep a ledger, fail and hang on purpose, and outlive the runner that uses them."""
