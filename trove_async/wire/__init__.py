"""The HTTP data plane that the cloud drivers share.

`trove_async.wire.transport` speaks HTTP/1.1; nothing in this package knows a service by name.
"""
