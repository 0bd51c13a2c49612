"""The benchmark: this library against its peers, under the same conditions and in the same run.

``python -m benchmarks --help`` tells how to run it, ``docs/benchmark.md`` how to read it.
"""
