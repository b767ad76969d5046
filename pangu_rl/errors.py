"""The errors a user can meet. The command line prints one line for each of them and leaves with its exit code."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong, where, both values, and the way out."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration that cannot run: an unknown key, a bad value, two values that exclude each other."""


class DataError(UserError):
    """A row, file or model folder that cannot be used; the message names the file and the row."""


class RunError(Exception):
    """The run itself failed: an actor died for good, a phase stalled, too many rows had no verdict."""

    exit_code = 1


class RankLost(RunError):
    """An actor that trains died or hangs: names it. What it computed since the last checkpoint is gone."""


class NoPlace(RunError):
    """The node of an actor is gone, and its devices are nowhere else to be had: names both."""


class RewardError(RunError):
    """A reward function raised, or returned something that is not a finite score; names plugin and sample."""


class CheckpointError(RunError):
    """A checkpoint is incomplete, corrupt, or was made by another model or world size."""


class WeightSyncError(RunError):
    """The engine does not hold the weights the learner published: a name, a hash or the probe differs."""


class BrokenBroadcast(WeightSyncError):
    """Weights did not reach all members of a broadcast group: one was lost on the way. They may be sent once more."""


class Preempted(Exception):
    """SIGTERM or Ctrl-C arrived: the run checkpointed and leaves with its own exit code."""

    exit_code = 143


def first_line(error: BaseException) -> str:
    """What one line can say of somebody else's error; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
