"""Settings and models far outside the usual: finite weights and an honest report, or a sentence."""

from __future__ import annotations

import os

import pytest

from tests.faults import odd_numbers

LONG = os.environ.get("FAULTS") == "long"
CASES = 500 if LONG else 20


@pytest.mark.parametrize("first", range(0, CASES, 20))
def test_training_ends_honestly(first, valid_set):
    for number in range(first, first + 20):
        case = odd_numbers.case_of(f"test-{number}")
        outcome, said = odd_numbers.outcome_of(case, valid_set)
        assert outcome != "defect", f"{case}: {said}"


@pytest.mark.parametrize(
    ("batch_size", "var", "variant"),
    [
        (40, 1e-44, ""),  # every loss is infinite
        (8, 0.5, "fails_from=4"),  # back to the model before training, in the last epoch
    ],
)
def test_a_model_that_is_not_trained_is_no_success(batch_size, var, variant, valid_set):
    settings = {"epochs": 2, "batch_size": batch_size, "var": var, "precision": "fp32"}
    settings |= {"device": "cpu", "convolutions": "torch", "eval_num": 10}
    case = odd_numbers.Case(settings, "VAEwolabel", 3, variant, "digits")
    outcome, said = odd_numbers.outcome_of(case, valid_set)
    assert outcome == "refused" and "the model is not trained" in said, said


def test_the_generator_reaches_every_outcome(valid_set):
    """Some cases finish and some are refused: neither the models nor the checks are too strict."""
    outcomes = {
        odd_numbers.outcome_of(odd_numbers.case_of(f"test-{n}"), valid_set)[0] for n in range(12)
    }
    assert outcomes == {"finished", "refused"}
