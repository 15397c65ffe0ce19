"""Micro-benchmarks: one file per question, each checks the answer before it times it. Run by `clustercl bench`."""
