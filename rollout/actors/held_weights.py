"""Which weights the pool's engines hold. Manifest -> **loads, each checked** -> every slot at the manifest's version.

An engine comes by weights at a sync, when it wakes without its own, and when it takes the place of one that was lost.
The pool waits for the calls that are opened here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pangu_rl.errors import BrokenBroadcast
from pangu_rl.records import WeightManifest
from rollout.actors.senders import Publication, SendCall, Senders
from rollout.actors.slots import Slot
from rollout.engine import UNKNOWN_VERSION, EngineSpec, Link
from rollout.weights import check_digests

Resend = Callable[[tuple[str, ...]], Publication]
"""Publishes the current weights once more, to the workers of these names."""


class HeldWeights:
    """Of the slots of one pool."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._manifest: WeightManifest | None = None
        self._resend: Resend | None = None
        self._is_kept = False
        """Whether the senders keep what they wrote into shared memory."""
        self.asleep = False
        """Whether the engines are to sleep: one that starts meanwhile does too."""
        self.senders = Senders()
        """Of the broadcast that is under way, if one is."""

    @property
    def version(self) -> int:
        """What an engine must hold to draw; 0 before the first sync."""
        return self._manifest.version if self._manifest else 0

    @property
    def is_sent_again(self) -> bool:
        """Whether an engine that lost a broadcast can be given it once more."""
        return self._resend is not None

    def members(self, slots: Sequence[Slot]) -> tuple[str, ...]:
        """A name for every worker of `slots`, in the order of their ranks from 1 on."""
        devices = range(self._spec.rollout.devices_per_actor)
        return tuple(f"{slot.actor._actor_id.hex()}/{device}" for slot in slots for device in devices)

    def end_resending(self) -> None:
        """The senders are about to have other weights, or to be others; who has not loaded these waits for those."""
        self._resend, self._is_kept, self.senders = None, False, Senders()

    def give(self, slots: Sequence[Slot], manifest: WeightManifest, sending: Sequence[SendCall]) -> None:
        """Begin to load `manifest` everywhere; `sending` are the calls of those who send a broadcast."""
        self._manifest, self.senders = manifest, Senders(manifest.version, sending)
        self._is_kept = manifest.transport == "shm"
        self._link(slots)
        for slot in slots:
            self.load(slot)

    def given(self, slots: Sequence[Slot], resend: Resend | None) -> None:
        """All loads have ended. As long as the senders keep these weights `resend` publishes them again.

        Raises:
            BrokenBroadcast: slots are without them. WeightSyncError: the senders are not done.
        """
        self.senders.finish()
        self.senders = Senders()
        if without := [slot.index for slot in slots if slot.version != self.version]:
            raise BrokenBroadcast(f"rollout actors {without} are without weights version {self.version}")
        self._resend = resend

    def load(self, slot: Slot) -> None:
        """Begin to load the current weights in one engine."""
        manifest = self._manifest

        def loaded(digests: dict[str, str]) -> None:
            check_digests(manifest, digests)
            slot.version = manifest.version

        slot.version = UNKNOWN_VERSION
        slot.begin(slot.actor.load_weights.remote(manifest, slot.link), loaded)

    def lull(self, slot: Slot) -> None:
        """Begin to put one engine to sleep.

        At level 1 whatever the configuration says where nothing could bring its weights back: before the first sync,
        and where syncs bring adapters alone.
        """
        comes_back = self._manifest is not None and self._manifest.adapter is None
        level = self._spec.accelerator.sleep_level(self._spec.rollout.sleep_level) if comes_back else 1
        if level > 1:
            slot.version = UNKNOWN_VERSION
        slot.begin(slot.actor.sleep.remote(level), lambda _: None)

    def started(self, slot: Slot) -> None:
        """An engine is up, with the weights of its model folder."""
        if self._manifest is None:
            slot.version = 0
        if self.asleep:
            # In the place of one that was lost asleep: it has weights once it wakes.
            self.lull(slot)
        elif self._manifest is None:
            return
        elif self._is_kept:
            self.load(slot)
        elif self._resend is not None:
            self._manifest, _ = self._resend(self.members([slot]))
            self._link([slot])
            self.load(slot)
        # Else it waits for the next weights: these are gone.

    def _link(self, slots: Sequence[Slot]) -> None:
        devices = self._spec.rollout.devices_per_actor
        for place, slot in enumerate(slots):
            slot.link = Link(first_rank=1 + place * devices, world_size=1 + len(slots) * devices)
