"""The step-time formula, and limits that follow from a profile."""

import msgspec
import pytest

from pointsman_simulator.core.engine_profile import DEMO, H100_8B, PROFILES


def test_a_step_that_prefills_pays_for_tokens_once_they_outweigh_the_weights() -> None:
    # 2 ms + max(7, 2048 * 0.045 = 92.16) ms + 1.3 ns * 2048 * 1024
    seconds = H100_8B.step_s(
        prefill_tokens=2048, decodes=0, decode_context=0, chunk_context=2048 * 1024
    )
    assert seconds == pytest.approx(0.002 + 0.09216 + 0.0027262976)


def test_a_step_that_decodes_alone_pays_for_weights_sequences_and_context() -> None:
    # 2 ms + max(7, 10 * 0.045) ms + 10 * 30 us + 20,000 * 0.052 us
    seconds = H100_8B.step_s(prefill_tokens=0, decodes=10, decode_context=20_000, chunk_context=0.0)
    assert seconds == pytest.approx(0.002 + 0.007 + 0.0003 + 0.00104)


def test_a_full_cache_makes_a_decode_step_of_about_thirty_milliseconds() -> None:
    seconds = H100_8B.step_s(
        prefill_tokens=0, decodes=20, decode_context=410_000, chunk_context=0.0
    )
    assert 0.028 < seconds < 0.033


def test_loading_an_adapter_lengthens_the_step() -> None:
    without, with_two = (
        H100_8B.step_s(
            prefill_tokens=1, decodes=0, decode_context=0, chunk_context=0.0, lora_loads=loads
        )
        for loads in (0, 2)
    )
    assert with_two - without == pytest.approx(2 * H100_8B.lora_load_s)


def test_the_demo_takes_a_millisecond_or_two_a_step() -> None:
    alone = DEMO.step_s(prefill_tokens=500, decodes=0, decode_context=0, chunk_context=0.0)
    crowded = DEMO.step_s(
        prefill_tokens=8000, decodes=192, decode_context=10**6, chunk_context=10**7
    )
    assert 0.0009 < alone < crowded < 0.002


def test_blocks_are_whole() -> None:
    profile = msgspec.structs.replace(H100_8B, kv_tokens=100, block_size=16)
    assert profile.total_blocks == 6
    assert [profile.blocks(tokens) for tokens in (0, 1, 16, 17)] == [0, 1, 1, 2]


def test_the_longest_request_fits_the_model_and_the_cache() -> None:
    assert H100_8B.longest_tokens == 131_072
    assert msgspec.structs.replace(H100_8B, kv_tokens=100).longest_tokens == 96


def test_profiles_are_found_by_name() -> None:
    assert set(PROFILES) == {"8b-h100", "70b-tp4-h100", "demo"}
    assert all(profile.name == name for name, profile in PROFILES.items())
