"""HTTP: the control socket of a running runner, and its client side."""
