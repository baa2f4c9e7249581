"""The tables of the papers, regenerated: ``python -m benchmarks list``."""
