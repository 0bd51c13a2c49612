"""The errors of the launchers."""


class ServerError(Exception):
    """A server cannot be started or reached. The message gives the reason, and what to do about it."""


class BusyError(ServerError):
    """Another process is starting or stopping the server."""
