"""Benchmarks: what the parts of Floodmark cost, beside what one would use instead.

Each prints a table and writes `results/bench/<part>.json`. What is compared is measured interleaved in one run and
given as a ratio with its spread, because machines are noisy. Nothing here asserts a time.
"""
