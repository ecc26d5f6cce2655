"""How fast is an engine, and how much does it hold? One frozen profile per model and hardware.

The constants of the two H100 profiles are derived (weights and KV bytes over memory bandwidth,
FLOPs at 35-45 % utilisation), not measured; `demo` is no hardware at all, only quick.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class EngineProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The constants of the step-time formula, and the limits of the scheduler inside the engine."""

    name: str

    step_overhead_s: Seconds
    """`o`: what every step costs, whatever it holds."""

    weights_s: Seconds
    """`w`: reading the weights once; hides the linear work of a step with few tokens."""

    token_s: Seconds
    """`p`: linear work per token of the step, prefilled or decoded."""

    decode_s: Seconds
    """`b`: per decoding sequence."""

    context_s: Seconds
    """`c`: per token of context that a decoding sequence reads."""

    attention_s: Seconds
    """`q`: per prefilled token and token of context before it."""

    kv_tokens: PositiveInt
    """Tokens that the KV cache holds; rounded down to whole blocks."""

    block_size: PositiveInt = 16
    """Tokens per KV block."""

    step_budget_tokens: PositiveInt = 2048
    """Most tokens in one step, decodes first; longer prompts are prefilled in chunks."""

    max_sequences: PositiveInt = 256
    """Most requests that are admitted at a time."""

    max_model_len: PositiveInt = 131_072
    """Longest prompt and output together, in tokens."""

    admission_reserve: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.01
    """Fraction of the blocks that a newcomer must leave free, so that decodes may grow."""

    max_loras: PositiveInt = 4
    """Adapters resident at a time."""

    lora_load_s: Seconds = 0.02
    """Added to the step that first needs an adapter which is not resident."""

    @property
    def total_blocks(self) -> int:
        """KV blocks of the engine."""
        return self.kv_tokens // self.block_size

    @property
    def longest_tokens(self) -> int:
        """Tokens of the longest prompt with its output: what the model takes and the KV holds."""
        return min(self.max_model_len, self.total_blocks * self.block_size)

    def blocks(self, tokens: int) -> int:
        """Return the blocks that hold `tokens`."""
        return -(-tokens // self.block_size)

    def step_s(
        self,
        *,
        prefill_tokens: int,
        decodes: int,
        decode_context: int,
        chunk_context: float,
        lora_loads: int = 0,
    ) -> float:
        """Return a step's length: `o + max(w, p*tokens) + b*decodes + c*context + q*chunks`.

        `decode_context` is the sum of the contexts of all decoding sequences, in tokens;
        `chunk_context` the sum of chunk length times mean context over the prefill chunks.
        """
        return (
            self.step_overhead_s
            + max(self.weights_s, self.token_s * (prefill_tokens + decodes))
            + self.decode_s * decodes
            + self.context_s * decode_context
            + self.attention_s * chunk_context
            + self.lora_load_s * lora_loads
        )


H100_8B = EngineProfile(
    name="8b-h100",
    step_overhead_s=2e-3,
    weights_s=7e-3,
    token_s=45e-6,
    decode_s=30e-6,
    context_s=0.052e-6,
    attention_s=1.3e-9,
    kv_tokens=410_000,
)

H100_70B_TP4 = EngineProfile(
    name="70b-tp4-h100",
    step_overhead_s=3e-3,
    weights_s=17.5e-3,
    token_s=85e-6,
    decode_s=50e-6,
    context_s=0.036e-6,
    attention_s=1.6e-9,
    kv_tokens=450_000,
    lora_load_s=0.06,
)

DEMO = EngineProfile(
    name="demo",
    step_overhead_s=0.2e-3,
    weights_s=0.8e-3,
    token_s=0.15e-6,
    decode_s=1e-6,
    context_s=0.0,
    attention_s=0.0,
    kv_tokens=410_000,
    step_budget_tokens=8192,
    lora_load_s=2e-3,
)

PROFILES: Mapping[str, EngineProfile] = {
    profile.name: profile for profile in (H100_8B, H100_70B_TP4, DEMO)
}
