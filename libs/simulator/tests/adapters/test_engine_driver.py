"""The engine in real time: answers come, and aborted ones do not."""

import asyncio
import time

from pointsman_simulator.adapters.engine_driver import EngineDriver
from pointsman_simulator.adapters.engine_metrics import EngineMetrics
from pointsman_simulator.adapters.generation import Generation
from pointsman_simulator.core.engine import Engine
from pointsman_simulator.core.engine_events import EngineRequest
from pointsman_simulator.core.engine_profile import DEMO
from pointsman_simulator.core.generated_text import GeneratedText

DEADLINE_S = 10.0


def driver_of(time_factor: float = 1.0) -> EngineDriver:
    engine = Engine(DEMO, time_factor=time_factor)
    return EngineDriver(engine, EngineMetrics("llama", DEMO, 0.0), time.monotonic)


def generation(name: str, *, streamed: bool = True, output: int = 10) -> Generation:
    request = EngineRequest(
        request_id=name, prompt_tokens=20, output_tokens=output, streamed=streamed
    )
    return Generation(request, GeneratedText(b"prompt", 0), "length", asyncio.Event())


async def finish(answer: Generation) -> list[bytes]:
    """Take words as they come until the answer is finished."""
    words: list[bytes] = []
    async with asyncio.timeout(DEADLINE_S):
        while not answer.finished:
            await answer.progress.wait()
            answer.progress.clear()
            words += answer.take_words()
    return words


async def test_a_stream_yields_each_word_once() -> None:
    driver, answer = driver_of(), generation("a")
    driver.submit(answer)
    words = await finish(answer)
    assert b"".join(words).decode() == answer.answer().text
    assert len(words) == 10


async def test_answers_run_side_by_side() -> None:
    driver = driver_of()
    answers = [generation(str(index), streamed=index % 2 == 0) for index in range(20)]
    for answer in answers:
        driver.submit(answer)
    await asyncio.gather(*map(finish, answers))
    assert driver.stats().finished == 20


async def test_an_aborted_answer_is_told_nothing_more() -> None:
    driver, gone, staying = driver_of(), generation("a"), generation("b")
    driver.submit(gone)
    driver.submit(staying)
    driver.abort(gone)
    driver.abort(gone)
    await finish(staying)
    assert not gone.finished
    assert (driver.stats().aborted, driver.stats().finished) == (1, 1)


async def test_a_new_request_is_served_though_a_distant_end_was_awaited() -> None:
    driver = driver_of()
    distant = generation("distant", streamed=False, output=5000)
    driver.submit(distant)
    for name in ("a", "b", "c"):  # each comes while only the distant end is awaited
        near = generation(name, output=2)
        driver.submit(near)
        await finish(near)
    assert not distant.finished
    driver.close()


async def test_a_closed_driver_is_silent() -> None:
    driver, answer = driver_of(), generation("a", output=2)
    driver.submit(answer)
    driver.close()
    other, longer = driver_of(), generation("a", output=10)
    other.submit(longer)
    await finish(longer)
    assert not answer.progress.is_set()
