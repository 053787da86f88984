"""The errors a user may see.

Each prints as one line: what was being done, what stopped it, what to do next.
Everything else that is raised is a fault of ours, not of the user.
"""


class SpacegrayError(Exception):
    """Something a user can understand and act upon.

    `link` names the link of the boot chain that broke, where one did.
    """

    exit_status = 1

    def __init__(
        self, doing: str, stopped_by: object, next_step: str, *, link: str | None = None
    ) -> None:
        self.doing = doing
        self.stopped_by = " ".join(str(stopped_by).split())
        self.next_step = next_step
        self.link = link
        super().__init__(f"{doing}: {self.stopped_by}; {next_step}")


class UsageError(SpacegrayError):
    """The command line or a file the user wrote is wrong."""

    exit_status = 2


class StoppedError(SpacegrayError):
    """Ctrl-C, where the same command does not go on from there but another one does."""

    exit_status = 130
    """What shells report for a command that Ctrl-C ended (128 + SIGINT)."""
