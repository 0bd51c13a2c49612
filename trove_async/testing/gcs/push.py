"""Push subscriptions: messages are sent as requests to an endpoint (https://cloud.google.com/pubsub/docs/push)."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["Pusher"]

_TAKEN: Final = (102, 200, 201, 202, 204)
_TIMEOUT: Final = 10.0
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 60.0


class Pusher:
    """Sends the waiting messages one by one; a message that is not acknowledged is sent again after a growing delay.

    Endpoints are ``http://``; nothing is signed.
    """

    def __init__(
        self, subscription: str, endpoint: str, waiting: deque[dict[str, Any]], arrived: asyncio.Event
    ) -> None:
        self._subscription = subscription
        self._endpoint = endpoint
        self._waiting = waiting
        self._arrived = arrived
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Stop; idempotent."""
        self._task.cancel()

    async def _run(self) -> None:
        delay = _FIRST_DELAY
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            message = self._waiting.popleft()
            if await self._is_taken(message):
                delay = _FIRST_DELAY
            else:
                self._waiting.append(message)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_DELAY)

    async def _is_taken(self, message: dict[str, Any]) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await self._post(message) in _TAKEN
        except (OSError, TimeoutError, ValueError):
            return False

    async def _post(self, message: dict[str, Any]) -> int:
        parts = urlsplit(self._endpoint)
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        body = json.dumps({"message": message, "subscription": self._subscription}).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"User-Agent: APIs-Google\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            return int((await reader.readline()).split()[1])
        except IndexError as error:
            raise ValueError("the endpoint's answer is not HTTP") from error
        finally:
            writer.close()
