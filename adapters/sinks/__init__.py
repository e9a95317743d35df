"""Where logs and events go besides the spool: one module a kind of place."""
