"""What a decision was made from, packed into its receipt, and taken out of it again bit for bit.

Packing is done for every receipt, so it copies whole arrays and looks at no candidate by itself.
Benchmark: tests/load/bench_pick.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pointsman_common.contract_codec import decode_endpoint
from pointsman_common.contracts.scheduling_pb2 import CandidateSet, DecisionInputs, LoraInputs
from pointsman_common.decision_receipts import unpack_columns
from pointsman_scheduler.core import candidates as column
from pointsman_scheduler.core.arrays import BoolArray, FloatArray
from pointsman_scheduler.core.candidates import COLUMNS, Candidates, LoraColumns

_NAMES: Mapping[int, str] = {
    column.WAITING: "waiting_requests",
    column.RUNNING: "running_requests",
    column.KV: "kv_cache_utilization",
    column.KV_TOKENS: "kv_cache_tokens",
    column.READ_AT: "read_at_s",
    column.REQUESTS: "in_flight_requests",
    column.PREFILL_TOKENS: "prefill_tokens",
    column.PREFILLING: "prefilling_requests",
    column.SERVING: "serving_requests",
    column.CONTEXT_TOKENS: "context_tokens",
    column.SPEED: "speed",
    column.DRAG: "drag",
    column.DRAG: "drag",
}
CACHED_BLOCKS = "cached_blocks"
COLUMN_NAMES = (*(_NAMES.get(index, f"column-{index}") for index in range(COLUMNS)), CACHED_BLOCKS)
"""Rows of the candidates' matrix, and what of the prompt each likely holds."""

NARROW_FROM = 128
"""Candidates from which columns are written in fewer bytes where that loses nothing."""

_CACHED_ADAPTERS = 256

_WIDTHS: Mapping[str, str] = {"d": "<f8", "I": "<u4", "H": "<u2", "c": "<f8"}


class InputsError(ValueError):
    """The inputs of a receipt cannot be read."""


@dataclass(slots=True)
class SeenCandidates:
    """The candidates at the moment of the decision. Their columns change with the next lease."""

    candidates: Candidates
    columns: FloatArray
    """A copy."""


class LoraPacker:
    """Packs where adapters are, anew only when that has changed."""

    def __init__(self) -> None:
        self._packed: LoraColumns | None = None
        self._free = b""
        self._inputs: dict[str, LoraInputs | None] = {}

    def pack(self, loras: LoraColumns, adapters: tuple[str, ...], inputs: DecisionInputs) -> None:
        """Write where `adapters` are, which plugins may ask for, and where slots are free."""
        if loras is not self._packed or len(self._inputs) > _CACHED_ADAPTERS:
            self._packed, self._inputs = loras, {}
            self._free = _bits(loras.has_free_slot())
        if self._free:
            inputs.free_lora_slot = self._free
        for adapter in adapters:
            if adapter not in self._inputs:
                self._inputs[adapter] = _lora_inputs(loras, adapter)
            packed = self._inputs[adapter]
            if packed is not None:
                inputs.loras.append(packed)


def pack_inputs(
    inputs: DecisionInputs,
    seen: SeenCandidates,
    loras: LoraPacker,
    *,
    candidate_set: str,
    adapters: tuple[str, ...],
    mean_output_tokens: float | None,
    memories: Mapping[str, bytes],
) -> None:
    """Write all of `inputs` but what is shown. `adapters`: those that plugins may ask for."""
    candidates = seen.candidates
    inputs.candidate_set = candidate_set
    inputs.encoding, inputs.columns = pack_columns(seen.columns, candidates.cached_blocks)
    inputs.now_s = candidates.now
    inputs.fresh_s, inputs.half_life_s = candidates.fresh_s, candidates.half_life_s
    inputs.all_believed = candidates.all_believed
    if mean_output_tokens is not None:
        inputs.mean_output_tokens = mean_output_tokens
    if memories:
        inputs.memories.update(memories)
    loras.pack(candidates.loras, adapters, inputs)


def pack_columns(columns: FloatArray, cached_blocks: FloatArray) -> tuple[str, bytes]:
    """The encoding and the numbers, as in DecisionInputs."""
    size = columns.shape[1]
    if size < NARROW_FROM:
        return "", _float64(columns) + _float64(cached_blocks)
    table = np.vstack((columns, cached_blocks))
    bits = table.view(np.int64)
    constant = (bits == bits[:, :1]).all(axis=1)
    with np.errstate(invalid="ignore"):  # NaN and infinity are in no integer, as the test finds
        whole = (table.astype(np.uint32).astype(np.float64).view(np.int64) == bits).all(axis=1)
    small = whole & (table.max(axis=1) < 1 << 16)
    letters, parts = "", list[bytes]()
    for row, values in enumerate(table):
        letter = "c" if constant[row] else "H" if small[row] else "I" if whole[row] else "d"
        letters += letter
        kept = values[:1] if letter == "c" else values
        parts.append(kept.astype(_WIDTHS[letter]).tobytes())
    return letters, b"".join(parts)


def unpack_candidates(inputs: DecisionInputs, candidate_set: CandidateSet) -> Candidates:
    """The candidates as the decision saw them.

    Columns that this version does not know are left out; those that it misses are 0.

    Raises:
        InputsError: the two do not belong together, or are damaged.
    """
    if inputs.candidate_set != candidate_set.hash:
        raise InputsError(
            f"the inputs are of candidate set {inputs.candidate_set!r}, "
            f"not of {candidate_set.hash!r}"
        )
    endpoints = tuple(decode_endpoint(one, 0.0) for one in candidate_set.endpoints)
    names, size = list(candidate_set.columns), len(endpoints)
    try:
        unpacked = unpack_columns(inputs.encoding, inputs.columns, len(names), size)
    except ValueError as error:
        raise InputsError(str(error)) from error
    rows: dict[str, Sequence[float]] = dict(zip(names, unpacked, strict=True))
    nothing = [0.0] * size
    known = np.array([rows.get(name, nothing) for name in COLUMN_NAMES], dtype=np.float64)
    return Candidates(
        endpoints=endpoints,
        labels=tuple(one.labels for one in endpoints),
        columns=known[:-1],
        loras=_SeenLoraColumns(inputs, size),
        cached_blocks=known[-1],
        now=inputs.now_s,
        fresh_s=inputs.fresh_s,
        half_life_s=inputs.half_life_s,
        all_believed=inputs.all_believed,
    )


class _SeenLoraColumns(LoraColumns):
    """As the receipt tells them; of an adapter that it does not name, nowhere."""

    def __init__(self, inputs: DecisionInputs, size: int) -> None:
        super().__init__(())
        nowhere = np.zeros(size, dtype=np.bool_)
        self._size = size
        self._found = {
            one.adapter: (_mask(one.active, size), _mask(one.waiting, size)) for one in inputs.loras
        }
        self._nowhere = (nowhere, nowhere)
        self._free = _mask(inputs.free_lora_slot, size)

    def _find(self, adapter: str) -> tuple[BoolArray, BoolArray]:
        return self._found.get(adapter, self._nowhere)


def _float64(values: FloatArray) -> bytes:
    return values.astype("<f8", copy=False).tobytes()


def _lora_inputs(loras: LoraColumns, adapter: str) -> LoraInputs | None:
    active, waiting = _bits(loras.active(adapter)), _bits(loras.waiting(adapter))
    if not active and not waiting:
        return None
    return LoraInputs(adapter=adapter, active=active, waiting=waiting)


def _bits(mask: BoolArray) -> bytes:
    """Empty where nothing is set."""
    return np.packbits(mask, bitorder="little").tobytes() if mask.any() else b""


def _mask(packed: bytes, size: int) -> BoolArray:
    """Raises InputsError when there are fewer bits than candidates."""
    if not packed:
        return np.zeros(size, dtype=np.bool_)
    if len(packed) != (size + 7) // 8:
        raise InputsError(f"{len(packed)} bytes are no bits of {size} candidates")
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=size, bitorder="little")
    return bits.astype(np.bool_)
