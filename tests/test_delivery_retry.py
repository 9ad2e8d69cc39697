from __future__ import annotations

import random

from django_signal_audit.delivery.worker import LONGEST_SECONDS, MAX_ATTEMPTS, delay, next_wait


class Middle(random.Random):
    def uniform(self, a, b):
        return (a + b) / 2


def test_ten_attempts_span_about_three_days():
    waits = [delay(attempt, Middle()) for attempt in range(1, MAX_ATTEMPTS)]
    assert waits == sorted(waits)
    assert waits[:3] == [20, 80, 320]
    assert 2.5 < sum(waits) / 86_400 < 4


def test_the_jitter_is_a_fifth_either_way():
    rng = random.Random(1)
    waits = [delay(1, rng) for _ in range(2000)]
    assert 16 <= min(waits) < 16.5
    assert 23.5 < max(waits) <= 24


def test_it_is_a_pure_function_of_attempt_and_rng():
    assert [delay(3, random.Random(7)) for _ in range(3)] == [delay(3, random.Random(7))] * 3


def test_the_last_attempt_has_no_next():
    assert next_wait(MAX_ATTEMPTS, None) is None
    assert next_wait(MAX_ATTEMPTS, 5) is None
    assert next_wait(MAX_ATTEMPTS - 1, None) > 0


def test_a_wait_that_was_asked_for_is_kept_up_to_a_day():
    assert next_wait(1, 90) == 90
    assert next_wait(1, 0) == 0
    assert next_wait(1, float("inf")) == LONGEST_SECONDS


def test_a_wait_that_makes_no_sense_is_the_usual_one():
    for nonsense in (-5, float("nan")):
        assert 16 <= next_wait(1, nonsense) <= 24
