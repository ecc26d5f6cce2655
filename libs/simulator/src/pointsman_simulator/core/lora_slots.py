"""Which LoRA adapters are resident, and may a request's adapter join the batch?

An adapter in use by a running request keeps its slot. When a new one needs a slot and all are
taken, the adapter whose last running request ended longest ago makes room; when every slot is in
use, the request is deferred and later ones may pass it, as in vLLM.
"""

from collections import Counter, OrderedDict


class LoraSlots:
    """The adapter slots of one engine, and who asks for them."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.changed = False
        """Set whenever the running or waiting adapters may have changed; cleared by `adapters`."""
        self._resident: OrderedDict[str, None] = OrderedDict()  # least recently used first
        self._running: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()

    def has_room(self, lora: str) -> bool:
        """Tell whether a request for `lora` can be admitted now."""
        return lora in self._running or len(self._running) < self.slots

    def wait(self, lora: str) -> None:
        """Count a request that waits for admission."""
        self._waiting[lora] += 1
        self.changed = True

    def leave_queue(self, lora: str) -> None:
        """Count a waiting request off: it was admitted, or aborted."""
        self._count_off(self._waiting, lora)

    def start(self, lora: str) -> bool:
        """Count a request that is admitted; return whether its adapter has to be loaded first."""
        self._running[lora] += 1
        self.changed = True
        missing = lora not in self._resident
        if missing and len(self._resident) >= self.slots:
            unused = next(name for name in self._resident if name not in self._running)
            del self._resident[unused]
        self._resident[lora] = None
        return missing

    def stop(self, lora: str) -> None:
        """Count a running request off."""
        self._count_off(self._running, lora)
        self._resident.move_to_end(lora)

    def adapters(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the adapters of running and of waiting requests, each sorted."""
        self.changed = False
        return tuple(sorted(self._running)), tuple(sorted(self._waiting))

    def _count_off(self, counter: Counter[str], lora: str) -> None:
        counter[lora] -= 1
        if not counter[lora]:
            del counter[lora]
        self.changed = True
