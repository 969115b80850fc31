"""Every bound of the server in one place: nothing that a stranger sends is without one."""

from __future__ import annotations

from dataclasses import dataclass

from gpt_kit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """How much is taken on at once, and how long anybody may take."""

    slots: int = 8
    """Choices that are computed at once, 1 or more; each keeps a KV cache of the whole context."""
    queue: int = 64
    """Choices that wait for a slot, 0 or more; above it requests are answered by 429 and Retry-After."""
    max_connections: int = 512
    """Open connections, 1 or more; the next one is answered by 503."""
    max_body_bytes: int = 1 << 18
    """Longest body of a request, in bytes; a longer one is answered by 413."""
    header_seconds: float = 10.0
    """Time to send the head of a request; then the connection is closed."""
    body_seconds: float = 20.0
    """Time to send the body of a request; then it is answered by 408."""
    keep_alive_seconds: int = 75
    """Time for which an idle connection is kept; longer than a load balancer's own, so that it does not meet a closed one."""
    write_seconds: float = 60.0
    """Time for which a client may leave its answer unread; then the connection is closed."""
    drain_seconds: float = 50.0
    """Time to finish what is running after SIGTERM or Ctrl-C; what is left then is broken off."""

    def __post_init__(self) -> None:
        lowest = {"slots": 1, "queue": 0, "max_connections": 1, "max_body_bytes": 1, "keep_alive_seconds": 1}
        wrong = [
            f"{name} must be {least} or more; got {getattr(self, name)}" for name, least in lowest.items() if getattr(self, name) < least
        ]
        for name in ("header_seconds", "body_seconds", "write_seconds", "drain_seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                wrong.append(f"{name} must be above 0; got {getattr(self, name)}")
        if wrong:
            raise ConfigError("the server cannot have these limits:\n  - " + "\n  - ".join(wrong))

    @property
    def max_outstanding(self) -> int:
        """Choices that are running or waiting, at most."""
        return self.slots + self.queue
