"""What shadows get of descriptors, and how much at most."""

from pointsman_common.testing.builders import a_descriptor
from pointsman_ext_proc.core.told_descriptors import MAX_BLOCKS, MAX_BYTES, ToldDescriptors


def test_a_wish_holds_for_15_s() -> None:
    told = ToldDescriptors("auto")
    assert told.of(a_descriptor(), 100.0) is None
    told.wish(100.0)
    assert told.of(a_descriptor(), 114.9) == a_descriptor()
    assert told.of(a_descriptor(), 115.0) is None
    assert told.told == 1


def test_a_long_prompt_is_cut_and_counted() -> None:
    told = ToldDescriptors("always")
    whole = a_descriptor(block_hashes=range(MAX_BLOCKS + 1))
    sent = told.of(whole, 0.0)
    assert sent is not None
    assert sent.prompt_block_hashes == whole.prompt_block_hashes[:-8]
    assert len(whole.prompt_block_hashes) == 8 * (MAX_BLOCKS + 1)
    assert (told.told, told.cut, told.left_out) == (1, 1, 0)


def test_a_descriptor_that_is_large_beside_its_blocks_is_left_out_and_counted() -> None:
    told = ToldDescriptors("always")
    descriptor = a_descriptor()
    descriptor.headers["x-large"] = "x" * MAX_BYTES
    assert told.of(descriptor, 0.0) is None
    assert (told.told, told.left_out) == (0, 1)
