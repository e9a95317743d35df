"""Stores: objects by URL, one module a product."""
