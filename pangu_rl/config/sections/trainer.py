"""The run: how long, where, how often things are saved and measured."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.paths import RunDir

AcceleratorName = Literal["cpu", "cuda", "npu"]


class TrainerConfig(Strict):
    run_dir: RunDir
    """Everything the run writes lies here; all nodes of a cluster share it."""
    steps: PositiveInt
    seed: NonNegativeInt = 0
    checkpoint_every: PositiveInt | None = None
    """Steps between checkpoints, which are written while training goes on; the last step always writes one."""
    checkpoint_every_s: PositiveFloat | None = 1800.0
    """A step that ends so long after the last checkpoint began writes one too: what a kill costs at most, and a step.
    Null leaves it to `checkpoint_every`."""
    keep_checkpoints: PositiveInt = 2
    """The newest ones; older ones are deleted."""
    keep_steps: tuple[PositiveInt, ...] = ()
    """Steps that write a checkpoint which is never deleted, for a mean over steps (MindVL 3.5.1). In a pipeline those
    that other stages take are added."""
    resume: Literal["auto", "never"] = "auto"
    """`auto` goes on from the newest whole checkpoint of `run_dir`; `never` refuses a run_dir that has one."""
    stall_s: PositiveFloat = 900.0
    """A phase that takes longer is reported with the actor and sample it waits for, and the stacks are dumped."""
    silence_s: PositiveFloat = 300.0
    """A learner rank or loader that gives no sign of life for so long hangs and is lost; how long it computes, compiles
    or waits for another one does not matter. Nor may a bucket of weights that are broadcast take longer."""
    max_restarts: NonNegativeInt = 3
    """After a lost rank all ranks start again from the newest checkpoint, at most so often without a new one."""
    profile_steps: tuple[PositiveInt, ...] = ()
    """Steps whose update rank 0 of the learner profiles: a trace, a table of operations and a picture of them in
    `profile/step_N` of the run directory. The other steps cost nothing more."""

    @model_validator(mode="after")
    def named_steps_are_taken(self) -> "TrainerConfig":
        for key in ("profile_steps", "keep_steps"):
            late = [step for step in getattr(self, key) if self.steps is not None and step > self.steps]
            if late:
                raise ValueError(f"{key} has {late[0]} and the stage ends after {self.steps} steps: name earlier ones")
        return self


class GrpoTrainerConfig(TrainerConfig):
    prompts_per_step: PositiveInt = 512
    max_staleness: int = Field(default=0, ge=0, le=8)
    """0: generate, train, sync, in turn. Above, the engines never wait for the learner as long as no token that trains
    is older than so many versions of the weights; a sync interrupts answers, which keep their tokens and go on."""
    eval_every: PositiveInt | None = None
    """Steps between held-out evaluations; the start and the end are always measured when `data.heldout` is set."""


class SftTrainerConfig(TrainerConfig):
    sequences_per_step: PositiveInt = 64


class MonitoringConfig(Strict):
    live: bool = True
    """The rich live view; off, one line per step. A terminal that is none gets lines in any case."""
    tensorboard: bool = True
    wandb_project: str | None = None
    """Weights & Biases project; the key comes from WANDB_API_KEY."""
    swanlab_project: str | None = None
    """SwanLab project; the key comes from SWANLAB_API_KEY."""
    mlflow_experiment: str | None = None
    """MLflow experiment; where it is kept comes from MLFLOW_TRACKING_URI."""
    trackio_project: str | None = None
    """trackio project, on this machine unless trackio's own variables name a server or a space."""


class ClusterConfig(Strict):
    address: str = "local"
    """`local` starts a private Ray for this run; `auto` or `host:port` joins a running cluster."""
    accelerator: AcceleratorName | Literal["auto"] = "auto"
    profile: str | None = None
    """Cluster that the stage is meant for: a name in configs/clusters/, or a .yaml file. `pangu-rl submit` and
    `pangu-rl pipeline --check` plan on it where no `--profile` is given; a run plans on the nodes that it finds."""
    wait_s: PositiveFloat = 600.0
    """How long a run waits for devices that other jobs hold; then it ends, and says what it asked for."""
    object_store_gib: PositiveFloat = 1.0
    """Object store of a local Ray."""
    remote_cache_gib: PositiveFloat = 100.0
    """Local copies of files that the configuration names in object storage (`s3://...`), in `$PANGU_RL_CACHE/remote` of
    each node; the least recently used leave."""
