"""The errors of the launchers."""


class ServerError(Exception):
    """A server can't be had. The message says why, and what to do about it."""


class BusyError(ServerError):
    """Another process is starting or stopping the server."""
