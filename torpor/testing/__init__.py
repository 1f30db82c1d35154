"""Shipped for the tests of whoever adds to torpor: conformance suites, faults, makers of trees. Needs pytest."""
