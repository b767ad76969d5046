"""What a device is to this system: one record of names, environments, functions. Configuration -> **device** -> actors.

Devices are data, not subclasses: `npu.py`, `cuda.py` and `cpu.py` each fill one record, and the code that trains and
samples asks the record instead of asking which device it runs on. torch is imported on first use, never by the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pangu_rl.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from pangu_rl.accelerators.attention.kernel import AttentionKernel

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""What families call the number of experts of a layer in their `config.json`."""
Environment = dict[str, str]


class Remark(NamedTuple):
    """What was found out about a device's driver and libraries on this machine."""

    check: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""
    """In one line; empty where nothing is to be done."""


LEARNER, ENGINE = "PANGU_RL_LEARNER_", "PANGU_RL_ENGINE_"
"""Begin the variables of a driver's environment that are for one role's processes: what follows is their name there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One kind of device."""

    name: str
    """torch's device type, and the name in `cluster.accelerator`."""
    dist_backend: str
    """Backend of torch.distributed for tensors on the device."""
    ds_accelerator: str
    """Value of DS_ACCELERATOR; explicit, since DeepSpeed's own detection takes an installed torch_npu for a device."""
    ray_resource: str | None
    """Ray's name of the device, or None where an actor needs none."""
    visible_env: str | None
    """Variable that narrows the devices a process sees."""
    noset_env: str | None
    """Variable that keeps Ray from setting `visible_env`."""
    dtypes: tuple[str, ...]
    """Dtypes the forward pass may have, the preferred one first."""
    detect: Callable[[], bool]
    """Whether this machine has the device in working order; never raises."""
    module: Callable[[], Any]
    """torch's module of the device, such as `torch.cuda`; from the first call on, torch knows the device."""
    train_env: Callable[..., Environment]
    """Threads of a rank, and the driver's environment (this process's by default) -> environment of a learner actor."""
    rollout_env: Callable[..., Environment]
    """Threads of an engine, and the driver's environment -> environment of a rollout actor."""
    memory_stats: Callable[[], dict[str, int]]
    """Bytes `allocated`, `reserved`, `peak`, `free`, `total` of the current device (on cpu: process and node)."""
    attention: Callable[[], AttentionKernel]
    """Attention over the segment tree of a pack."""
    profiler: Callable[[], Any]
    """A profiler of host and device, not yet started: a context manager with `export_chrome_trace(path)`."""
    sleep_levels: tuple[int, ...]
    """Levels of sleep that an engine has on it, the deepest last. Asleep, an engine has no KV cache; its weights are in
    host memory at level 1 and nowhere at level 2, so that only a sync brings them back."""
    sleep_args: Mapping[str, Any] | None
    """What vLLM is given for its sleep mode; None where it has none, and its worker gives up the memory itself."""
    experts_sleep: bool = True
    """Whether an engine whose model has experts wakes up with the weights that it fell asleep with."""
    cache_block: int = 32
    """Tokens of a block of the KV cache with prefix caching, the fewest that vLLM's attention takes. Only whole blocks
    are shared, and the 128 that vLLM takes by itself on a CPU are more than many a prompt has."""
    most_top_k: int | None = None
    """The largest top-k that its sampler takes; None where any is."""
    device_files: str | None = None
    """Pattern of the files in /dev that the driver makes, one per device; None where there are none."""
    examine: Callable[[], Iterator[Remark]] = lambda: iter(())
    """What stands between this machine and a run on the device, below torch; nothing where there is no such device."""
    extra: str = "cpu"
    """The extra of pyproject.toml that names the stack of such a machine."""

    def ray_options(self, devices: int) -> dict[str, Any]:
        """Arguments of `.options()` for an actor with so many devices.

        No actor asks for cores: Ray on 2 of them would otherwise wait for ever.
        """
        if self.ray_resource is None:
            return {"num_cpus": 0}
        if self.ray_resource == "GPU":
            return {"num_cpus": 0, "num_gpus": devices}
        return {"num_cpus": 0, "resources": {self.ray_resource: devices}}

    def local_index(self, ids: Sequence[str], env: Mapping[str, str]) -> int:
        """Index of the actor's first device as torch counts it in this process.

        `ids` is what Ray assigned (`get_accelerator_ids()[ray_resource]`). Ray narrows the visible devices to them, so
        the index is 0; where `noset_env` forbids that, it is the id's place in the visible list.
        """
        if not ids or not self._sees_all(env):
            return 0
        visible = [entry.strip() for entry in env.get(self.visible_env or "", "").split(",") if entry.strip()]
        return visible.index(ids[0]) if visible else int(ids[0])

    def own_devices(self, ids: Sequence[str], env: Mapping[str, str]) -> Environment:
        """What narrows an engine's process to the devices `ids`, where Ray does not: empty where it does.

        An engine takes the first devices that it sees. To be set before the process first asks for a device; without
        ids the actor shares devices that its environment names.
        """
        return {self.visible_env: ",".join(ids)} if ids and self._sees_all(env) else {}

    def _sees_all(self, env: Mapping[str, str]) -> bool:
        return self.noset_env is not None and env.get(self.noset_env, "").lower() not in ("", "0", "false")

    def sleep_level(self, asked: int | None) -> int:
        """The level that `rollout.sleep_level` asks for; None is the deepest.

        Raises:
            ConfigError: engines do not have it on this device.
        """
        if asked is not None and asked not in self.sleep_levels:
            raise ConfigError(
                f"rollout.sleep_level is {asked}, and on {self.name} engines sleep at level "
                f"{' or '.join(map(str, self.sleep_levels))}: set it to null"
            )
        return self.sleep_levels[-1] if asked is None else asked

    def require_sleeper(self, model: Mapping[str, Any]) -> None:
        """An engine of the model with this `config.json` can sleep.

        Raises:
            ConfigError: it cannot.
        """
        text = model.get("text_config") or model
        experts = next((key for key in EXPERTS if text.get(key)), None)
        if experts is not None and not self.experts_sleep:
            raise ConfigError(
                f"rollout.placement is shared, the model has {experts} {text[experts]}, and on {self.name} engines "
                "wake up with other experts than they fell asleep with: set it to split"
            )

    def require_top_k(self, asked: int) -> None:
        """`rollout.top_k` is one that the device's sampler takes; 0 is none.

        Raises:
            ConfigError: it is not.
        """
        if self.most_top_k is not None and asked > self.most_top_k:
            raise ConfigError(
                f"rollout.top_k is {asked}, and on {self.name} the sampler takes at most {self.most_top_k}: lower it, "
                "or set it to 0 for all tokens"
            )

    def device(self, index: int = 0) -> str:
        """Name for `torch.device`."""
        return self.name if self.ray_resource is None else f"{self.name}:{index}"

    def set_device(self, index: int) -> None:
        self.module().set_device(index)

    def synchronize(self) -> None:
        """Wait for the queued kernels, so that a clock read afterwards has seen them."""
        self.module().synchronize()

    def empty_cache(self) -> None:
        """Give cached blocks back to the device; nothing to do on cpu."""
        if self.ray_resource is not None:
            self.module().empty_cache()

    def rng_state(self) -> dict[str, torch.Tensor]:
        """uint8 state of the host's generator and, where there is one, of the current device's."""
        import torch

        state = {"cpu": torch.get_rng_state()}
        if self.ray_resource is not None:
            state[self.name] = self.module().get_rng_state()
        return state

    def set_rng_state(self, state: dict[str, torch.Tensor]) -> None:
        """Inverse of `rng_state`; a state saved on another kind of device is refused by its missing key."""
        import torch

        torch.set_rng_state(state["cpu"])
        if self.ray_resource is not None:
            self.module().set_rng_state(state[self.name])


def torch_profiler(*activities: str) -> Any:
    """torch's own, of `torch.profiler.ProfilerActivity`s by name."""
    from torch.profiler import ProfilerActivity, profile

    return profile(activities=[getattr(ProfilerActivity, activity) for activity in activities])


def torch_module(name: str) -> Any:
    """`module` of a device that torch knows by itself."""
    import torch

    return torch.get_device_module(name)


def device_memory(module: Any) -> dict[str, int]:
    """`memory_stats` of a device whose torch module follows torch.cuda's names."""
    free, total = module.mem_get_info()
    return {
        "allocated": module.memory_allocated(),
        "reserved": module.memory_reserved(),
        "peak": module.max_memory_allocated(),
        "free": free,
        "total": total,
    }


def variables_named(prefixes: tuple[str, ...], environ: Mapping[str, str]) -> Environment:
    """Variables that the user exported for the driver and that the actors must see too."""
    return {key: value for key, value in environ.items() if key.startswith(prefixes)}


def variables_of(role: str, environ: Mapping[str, str]) -> Environment:
    """Variables that are for the processes of `LEARNER` or `ENGINE` alone, by their names there."""
    return {key.removeprefix(role): value for key, value in environ.items() if key.startswith(role)}
