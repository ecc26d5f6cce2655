"""The sequences that decode together: how many, how much context, who is done when.

Each step gives every one of them a token, so they are told apart only when one joins or leaves.
Ending a step is a handful of additions however large the batch: the step at which a sequence ends,
and the steps at which it needs another KV block, are known when it joins.

`steps_started` is one ahead of `steps_done` while a step is under way, and equal between steps.
"""

from heapq import heappop, heappush

from pointsman_simulator.core.sequence import Phase, Sequence


class DecodeBatch:
    """The decoding sequences of one engine, and its count of steps."""

    def __init__(self, block_size: int) -> None:
        self.size = 0
        self.context = 0  # tokens that the next step reads for all of them
        self.steps_started = self.steps_done = 0
        self.streaming: dict[str, Sequence] = {}
        self._block_size = block_size
        self._boundaries = [0] * block_size  # sequences by step number at which a block is needed
        self._endings: list[tuple[int, int, Sequence]] = []  # (step, join, who); some out of date
        self._joins = 0

    def join(self, sequence: Sequence) -> None:
        """Add a sequence whose prefill is done; between steps only."""
        request = sequence.request
        sequence.phase = Phase.DECODING
        sequence.joined_step = self.steps_done
        sequence.finish_step = self.steps_done + request.output_tokens - sequence.generated
        self._joins += 1
        heappush(self._endings, (sequence.finish_step, self._joins, sequence))
        self._boundaries[self._boundary(sequence)] += 1
        self.size += 1
        self.context += request.prompt_tokens + sequence.generated
        if request.streamed:
            self.streaming[request.request_id] = sequence

    def leave(self, sequence: Sequence, phase: Phase) -> None:
        """Take a sequence out, for `phase`; its `generated` is final."""
        self._boundaries[self._boundary(sequence)] -= 1
        sequence.generated = sequence.generated_after(self.steps_done)
        sequence.phase = phase
        self.size -= 1
        self.context -= sequence.request.prompt_tokens + sequence.generated
        self.streaming.pop(sequence.request.request_id, None)

    def blocks_for_next_step(self) -> int:
        """Return how many sequences need another KV block to be in the next step."""
        return self._boundaries[self.steps_started % self._block_size]

    def start_step(self) -> None:
        """Count a step begun; its blocks are allocated."""
        self.steps_started += 1

    def end_step(self) -> None:
        """Count a step done: one more token for everybody who is still here."""
        self.steps_done += 1
        self.context += self.size

    def most_blocks_for(self, steps: int) -> int:
        """Return a bound on the blocks that the batch needs for `steps` more steps."""
        return self.size * (steps // self._block_size + 1)

    def skip_steps(self, steps: int) -> int:
        """End the step under way and begin the next, `steps` times; return the blocks it takes.

        The caller knows that nobody joins, leaves or ends meanwhile.
        """
        rounds, rest = divmod(steps, self._block_size)
        at = self.steps_started % self._block_size
        twice = self._boundaries + self._boundaries
        self.steps_started += steps
        self.steps_done += steps
        self.context += self.size * steps
        return self.size * rounds + sum(twice[at : at + rest])

    def pop_ended(self) -> Sequence | None:
        """Return a sequence whose last token is out; it has yet to `leave`."""
        ending = self.next_ending()
        if ending is None or ending > self.steps_done:
            return None
        return heappop(self._endings)[2]

    def next_ending(self) -> int | None:
        """Return the number of the step that ends a sequence next."""
        endings = self._endings
        while endings:
            step, _, sequence = endings[0]
            if sequence.phase is Phase.DECODING and sequence.finish_step == step:
                return step
            heappop(endings)  # it was aborted or preempted
        return None

    def _boundary(self, sequence: Sequence) -> int:
        # With `prefill_tokens` held at the join, step s makes room for one more; that is a new
        # block when prefill_tokens + s - joined_step is a multiple of the block size.
        return (sequence.joined_step - sequence.prefill_tokens) % self._block_size
