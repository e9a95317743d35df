"""Runtimes: the Containers and Images ports, one module a product."""
