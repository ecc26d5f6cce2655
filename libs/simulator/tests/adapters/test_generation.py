"""An answer between the engine and its writer."""

import asyncio

from pointsman_simulator.adapters.generation import Generation
from pointsman_simulator.core.engine_events import (
    EngineRequest,
    Finished,
    FirstToken,
    Preempted,
    Tokens,
)
from pointsman_simulator.core.generated_text import GeneratedText

TEXT = GeneratedText(b"prompt", 0)


def generation() -> Generation:
    request = EngineRequest(request_id="a", prompt_tokens=20, output_tokens=6, streamed=True)
    return Generation(request, TEXT, "stop", asyncio.Event())


def test_words_are_taken_once_in_the_order_of_the_text() -> None:
    answer = generation()
    answer.feed(FirstToken("a", 1.0, 0.0, cached_tokens=16))
    assert answer.take_words() == [TEXT.token(0)]
    assert answer.take_words() == []
    answer.feed(Tokens("a", 2.0, 2))
    answer.feed(Tokens("a", 3.0, 1))
    assert answer.take_words() == [TEXT.token(1), TEXT.token(2), TEXT.token(3)]
    assert answer.cached_tokens == 16


def test_a_preemption_wakes_nobody() -> None:
    answer = generation()
    answer.feed(Preempted("a", 1.0))
    assert not answer.progress.is_set()
    answer.feed(FirstToken("a", 2.0, 0.0, 0))
    assert answer.progress.is_set()


def test_the_end_brings_the_whole_answer() -> None:
    answer = generation()
    finished = Finished(
        request_id="a",
        at=5.0,
        arrived_at=0.0,
        admitted_at=0.0,
        first_token_at=1.0,
        prompt_tokens=20,
        cached_tokens=0,
        output_tokens=6,
        preemptions=0,
    )
    answer.feed(finished)
    assert answer.finished
    assert answer.answer().text == TEXT.text(6)
    assert answer.answer().finish_reason == "stop"
