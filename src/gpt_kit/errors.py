"""Errors that a person can act on.

Each message is a small letter: what went wrong, what was got, what was expected, what to do next. The command line prints the
message alone and leaves with `exit_code`: 2 where the request itself cannot be met, 1 for what happened while running.
"""


class GPTKitError(Exception):
    """Something went wrong while running; nothing that was already saved is lost."""

    exit_code = 1


class InputError(GPTKitError, ValueError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class ConfigError(InputError):
    """Settings that contradict each other, are out of range, or do not exist."""


class DataError(InputError):
    """A text, corpus or record that cannot be read or cannot teach."""


class TokenizerError(InputError):
    """A tokenizer that is missing, does not match, or cannot encode this text."""


class CheckpointError(InputError):
    """A model or checkpoint on disk that is missing, damaged, or of another shape."""


class DeviceError(InputError):
    """A device or precision that this machine does not have."""


class FolderInUseError(InputError):
    """Another process is writing into this folder."""


class DiskFullError(GPTKitError):
    """No room to write. What was there before is intact. `needed_bytes` is 0 where that is not known."""

    def __init__(self, message: str, needed_bytes: int = 0) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes


class RunStopped(GPTKitError):
    """A signal asked the work to stop; the message says what is kept of it. `exit_code` is 128 + the signal's number, as shells count."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class MissingExtraError(InputError):
    """An optional package is needed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}, which is not installed: pip install 'gpt-kit[{extra}]'")
