import threading

import pytest
import torch

from unabridged.attention.each_head import each_head


@pytest.fixture(autouse=True)
def _three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_heads_run_beside_each_other_in_order():
    heads = torch.arange(7)
    names = each_head(lambda _: threading.current_thread().name, heads)
    assert all(name.startswith("heads") for name in names)
    assert each_head(int, heads) == list(range(7))
    assert each_head(lambda _: torch.get_num_threads(), heads) == [1] * 7


def test_threads_afterwards_are_as_many_as_before_also_in_threads_born_later():
    each_head(int, torch.arange(4))
    assert torch.get_num_threads() == 3
    assert threads_of_a_new_thread() == 3


def test_a_head_that_fails_fails_the_whole_and_leaves_the_threads():
    with pytest.raises(RuntimeError, match="head 2"):
        each_head(fail_at_two, torch.arange(4))
    assert threads_of_a_new_thread() == 3


def fail_at_two(head):
    if head == 2:
        raise RuntimeError("head 2")
    return head


def test_no_gradients_are_recorded_where_they_are_switched_off():
    weights = torch.ones(4, 3, requires_grad=True)
    with torch.no_grad():
        assert not any(one.requires_grad for one in each_head(torch.exp, weights))
    with torch.inference_mode():
        assert all(one.is_inference() for one in each_head(torch.exp, weights))


def test_with_gradients_heads_come_one_after_another():
    weights = torch.ones(4, 3, requires_grad=True)
    torch.stack(each_head(torch.exp, weights)).sum().backward()
    torch.testing.assert_close(weights.grad, weights.detach().exp())
    names = each_head(lambda _: threading.current_thread().name, weights)
    assert names == [threading.main_thread().name] * 4
