"""Checkpoints that exist whole or not at all, and the lock that keeps two drivers out of one run directory."""

from pangu_rl.checkpoint.run_lock import run_lock
from pangu_rl.checkpoint.store import Checkpoint, CheckpointStore

__all__ = ["Checkpoint", "CheckpointStore", "run_lock"]
