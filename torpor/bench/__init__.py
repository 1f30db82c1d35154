"""Measures this machine through torpor's own modules, each figure beside what limits it. `torpor bench` is its door."""
