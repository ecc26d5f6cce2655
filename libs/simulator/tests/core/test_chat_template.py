"""Chats become bytes that grow at the end."""

from pointsman_simulator.core.chat_template import ANSWER_CUE, ChatMessage, render_chat


def test_turns_are_rendered_in_order_and_end_with_the_cue() -> None:
    rendered = render_chat([ChatMessage("system", "Be brief."), ChatMessage("user", "Hé!")], None)
    assert rendered == "<|system|>\nBe brief.\n<|user|>\nHé!\n<|assistant|>\n".encode()


def test_a_longer_chat_begins_with_the_shorter_one() -> None:
    turns = [ChatMessage("user", "one")]
    longer = [*turns, ChatMessage("assistant", "answer"), ChatMessage("user", "two")]
    assert render_chat(longer, None).startswith(render_chat(turns, None))


def test_text_parts_are_their_text_and_other_parts_stand_for_themselves() -> None:
    parts: list[dict[str, object]] = [
        {"type": "text", "text": "see "},
        {"type": "image_url", "image_url": {"url": "u"}},
    ]
    rendered = render_chat([ChatMessage("user", parts)], None)
    assert rendered == b'<|user|>\nsee {"image_url":{"url":"u"},"type":"image_url"}\n' + ANSWER_CUE


def test_tools_come_first_whatever_the_order_of_their_keys() -> None:
    turn = [ChatMessage("user", "x")]
    one = render_chat(turn, [{"type": "function", "name": "f"}])
    other = render_chat(turn, [{"name": "f", "type": "function"}])
    assert one == other
    assert one.startswith(b"<|tools|>\n[{")


def test_a_turn_may_have_no_content() -> None:
    calls = [{"id": "c1"}]
    rendered = render_chat([ChatMessage("assistant", None, calls)], None)
    assert rendered == b'<|assistant|>\n[{"id":"c1"}]\n' + ANSWER_CUE
