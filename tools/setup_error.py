"""The one exception of set-up: its text is what the user reads."""


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says what was tried, what is needed and what to do."""
