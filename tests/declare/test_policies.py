import pytest

from runtime import Breaker, GiveUp, Retry, RetryAfter
from runtime.base.errors import DeclarationError, FnrunError
from runtime.declare.policies import Policy, policy_of


def test_nothing_said_is_nothing_kept():
    assert policy_of({"timeout": None, "retries": None}) == Policy()


def test_none_is_something_to_fall_back_to():
    assert policy_of({"fallback": None}).fallback is None


def test_a_number_of_retries_is_a_number_of_attempts():
    assert policy_of({"retries": 4}).retries.attempts == 4


@pytest.mark.parametrize(
    ("wait", "first", "cap"), [("1s..5m", 1, 300), ("500ms..2s", 0.5, 2), ("10s", 10, 10), ("7..7", 7, 7), (3, 3, 3)]
)
def test_a_wait_has_a_first_and_a_cap(wait, first, cap):
    retry = Retry(wait=wait)
    assert (retry.first_seconds, retry.cap_seconds) == (first, cap)


def test_a_retry_says_what_it_does():
    retry = Retry(5, wait="1s..5m", on=OSError, giveup=(ValueError, KeyError), jitter=False)
    assert (retry.on, retry.giveup, retry.jitter) == ((OSError,), (ValueError, KeyError), False)
    assert repr(retry) == "Retry(5, wait=1s..300s)"
    assert repr(Breaker(2, reset="1m")) == "Breaker(2, reset=60s)"


def test_verdicts_carry_their_words():
    assert str(RetryAfter("1m30s")) == "retry after 90 s"
    assert str(RetryAfter(5, "the bank is closed")) == "the bank is closed"
    assert RetryAfter(0.5).delay_seconds == 0.5
    assert issubclass(RetryAfter, FnrunError)
    assert issubclass(GiveUp, FnrunError)
    with pytest.raises(ValueError, match="'later' is not a duration above zero"):
        RetryAfter("later")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retry(0), "Retry(attempts=0): a whole number, at least 1"),
        (lambda: Retry(2.5), "Retry(attempts=2.5): a whole number, at least 1"),
        (lambda: Retry(wait="5m..1s"), 'Retry(wait="5m..1s"): the cap is below the first wait; write "1s..5m"'),
        (lambda: Retry(wait="1s.."), "@fn(retries=Retry(wait=''): '' is not a duration above zero; write"),
        (lambda: Retry(on=[OSError]), "Retry(on=[<class 'OSError'>]): a tuple of exception classes, (OSError,) for"),
        (lambda: Retry(giveup=(OSError, 3)), "Retry(giveup=(<class 'OSError'>, 3)): a tuple of exception classes"),
        (lambda: Breaker(True), "Breaker(failures=True): a whole number, at least 1"),
        (lambda: Breaker(reset=0), "Breaker(reset=0): 0 is not a duration above zero"),
        (lambda: policy_of({"retries": "3"}), "@fn(retries='3'): write retries=Retry(...)"),
        (lambda: policy_of({"retries": True}), "Retry(attempts=True): a whole number, at least 1"),
        (lambda: policy_of({"breaker": 5}), "@fn(breaker=5): write breaker=Breaker(...)"),
        (lambda: policy_of({"concurrency": 0}), "@fn(concurrency=0): a whole number, at least 1"),
        (lambda: policy_of({"timeout": []}), '@fn(timeout=[]): [] is not a duration above zero; write "30s"'),
        (lambda: policy_of({"rate": 5}), '@fn(rate=5): 5 is not a rate; write "10/s", "100/m"'),
        (lambda: policy_of({"rate": "0/s"}), "@fn(rate='0/s'): '0/s' is not a rate"),
        (lambda: policy_of({"memory": "much"}), "@fn(memory='much'): 'much' is not a size"),
        (lambda: policy_of({"memory": "1MB"}), '@fn(memory=...) needs isolation="process": a thread cannot be held'),
        (lambda: policy_of({"isolation": "thread"}), "@fn(isolation='thread'): the one kind is \"process\""),
    ],
)
def test_a_policy_that_cannot_hold_names_the_option_and_the_fix(make, message):
    with pytest.raises(DeclarationError) as caught:
        make()
    assert str(caught.value).startswith(message)
