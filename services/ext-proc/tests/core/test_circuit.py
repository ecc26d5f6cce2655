from pointsman_ext_proc.core.circuit import Circuit


def an_open_circuit() -> Circuit:
    circuit = Circuit(failures=3, open_s=1.0)
    for _ in range(3):
        circuit.failed(100.0)
    return circuit


def test_it_opens_after_consecutive_failures_only() -> None:
    circuit = Circuit(failures=3, open_s=1.0)
    for _ in range(5):
        circuit.failed(100.0)
        circuit.failed(100.0)
        circuit.succeeded()
    assert circuit.allows(100.0)
    assert not circuit.is_open
    assert not an_open_circuit().allows(100.9)


def test_after_a_while_one_call_probes_and_its_success_closes_it() -> None:
    circuit = an_open_circuit()
    assert circuit.allows(101.0)
    assert not circuit.allows(101.0)
    circuit.succeeded()
    assert circuit.allows(101.0)
    assert not circuit.is_open


def test_a_failed_probe_keeps_it_open_for_another_while() -> None:
    circuit = an_open_circuit()
    assert circuit.allows(101.0)
    circuit.failed(101.5)
    assert not circuit.allows(102.4)
    assert circuit.allows(102.5)


def test_a_probe_whose_caller_went_lets_the_next_one_probe() -> None:
    circuit = an_open_circuit()
    assert circuit.allows(101.0)
    circuit.abandoned()
    assert circuit.allows(101.0)


def test_a_probe_that_never_ends_does_not_hold_it_open_for_ever() -> None:
    circuit = an_open_circuit()
    assert circuit.allows(101.0)
    assert circuit.allows(102.0)
