from pointsman_common.circuit import Circuit


def an_open_circuit() -> Circuit:
    circuit = Circuit(failures=2, open_s=5.0)
    circuit.failed(100.0)
    assert circuit.allows(100.0)
    circuit.failed(100.0)
    return circuit


def test_it_opens_after_consecutive_failures_only() -> None:
    circuit = Circuit(failures=2, open_s=5.0)
    for _ in range(3):
        circuit.failed(100.0)
        circuit.succeeded()
    assert circuit.allows(100.0) and not circuit.is_open
    assert not an_open_circuit().allows(104.9)


def test_one_probe_goes_out_when_it_has_been_open_for_a_while() -> None:
    circuit = an_open_circuit()
    assert circuit.allows(105.0)
    assert not circuit.allows(105.0)
    circuit.succeeded()
    assert circuit.allows(105.0) and circuit.allows(105.0)


def test_a_failed_probe_opens_it_again_and_a_lost_one_makes_room_for_the_next() -> None:
    circuit = an_open_circuit()
    assert circuit.allows(105.0)
    circuit.failed(106.0)
    assert not circuit.allows(110.9) and circuit.allows(111.0)
    circuit.abandoned()
    assert circuit.allows(111.0)
    assert circuit.allows(116.0), "the probe was never heard of again"
