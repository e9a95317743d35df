"""The tests, laid out like the packages they test; `make test` runs them group by group."""
