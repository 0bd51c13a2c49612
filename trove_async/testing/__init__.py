"""What tests of drivers, layers and applications need.

`trove_async.testing.conformance` is the suite that every driver passes.
"""
