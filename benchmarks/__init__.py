"""The benchmark: this library against its peers, under the same conditions and in the same run.

``python -m benchmarks --help`` shows the options, ``docs/benchmark.md`` explains the results.
"""
