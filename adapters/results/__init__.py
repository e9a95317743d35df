"""Result backends by product, each an adapter of the port ``Results``: where others read what became of jobs."""
