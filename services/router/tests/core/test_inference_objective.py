from pointsman_router.core.inference_objective import priority_of

OBJECTIVES = {"high": 10, "shed": -1}
CRITICAL = 5


def test_the_objective_that_the_client_names_gives_the_priority() -> None:
    assert priority_of("high", OBJECTIVES, CRITICAL) == 10
    assert priority_of("shed", OBJECTIVES, None) == -1


def test_an_unknown_objective_is_zero() -> None:
    assert priority_of("nobody", OBJECTIVES, CRITICAL) == 0


def test_without_an_objective_the_inference_model_has_its_say() -> None:
    assert priority_of("", OBJECTIVES, CRITICAL) == 5
    assert priority_of("", OBJECTIVES, 0) == 0
    assert priority_of("", OBJECTIVES, None) == 0
