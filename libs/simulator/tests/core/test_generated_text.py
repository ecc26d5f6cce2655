"""The same prompt gets the same words."""

import json

from pointsman_simulator.core.generated_text import WORDS, GeneratedText


def test_the_answer_depends_on_prompt_and_seed_alone() -> None:
    text = GeneratedText(b"prompt", seed=1).text(50)
    assert text == GeneratedText(b"prompt", seed=1).text(50)
    assert text != GeneratedText(b"prompt", seed=2).text(50)
    assert text != GeneratedText(b"Prompt", seed=1).text(50)


def test_tokens_add_up_to_the_text() -> None:
    answer = GeneratedText(b"prompt", seed=0)
    assert b"".join(answer.token(index) for index in range(30)).decode() == answer.text(30)
    assert len(answer.text(30).split()) == 30


def test_natural_lengths_spread_from_16_to_128() -> None:
    lengths = {GeneratedText(b"%d" % n, seed=0).natural_length for n in range(3000)}
    assert lengths == set(range(16, 129))


def test_words_need_no_escape_in_json() -> None:
    assert len(WORDS) == 256
    assert all(json.dumps(word.decode()) == f'"{word.decode()}"' for word in WORDS)
