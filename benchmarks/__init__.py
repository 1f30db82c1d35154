"""Measurements. Speed and memory are measured here, never in tests. `./dev bench` lists them; results go to benchmarks/results/."""
