"""Generators in a child process: their results, exceptions, crashes and time limit."""

import ctypes
import faulthandler
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from gradients.checking import failed, numbers
from torch import Tensor

from bp_torch.gradients import CannotCheck, check_gradients
from bp_torch.gradients.isolation import Crash, in_child
from bp_torch.sample import Sample


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def crash() -> None:
    """End the process as a read outside of a buffer does; without a traceback."""
    faulthandler.disable()
    ctypes.string_at(0)


CHECKS = ("gradient", "accumulation")


class Blocks(torch.autograd.Function):
    """Twice x, which crashes unless x has whole blocks."""

    block = 4

    @classmethod
    def forward(cls, ctx: Any, x: Tensor) -> Tensor:
        if x.shape[0] % cls.block:
            crash()
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return 2 * grad_output


class TestInChild:
    def test_results_come_in_order(self) -> None:
        results = [*in_child(lambda: iter([{"a": torch.ones(2).tolist()}, "x" * 200_000, None]), soon())]
        assert results == [{"a": [1.0, 1.0]}, "x" * 200_000, None]

    def test_an_exception_is_raised_here(self) -> None:
        def raising() -> Iterator[int]:
            yield 1
            raise KeyError("no such size")

        results = in_child(raising, soon())
        assert next(results) == 1
        with pytest.raises(RuntimeError, match="no such size"):
            next(results)

    def test_a_crash_names_the_signal(self) -> None:
        def crashing() -> Iterator[int]:
            yield 1
            crash()

        results = in_child(crashing, soon())
        assert next(results) == 1
        with pytest.raises(Crash, match="SIGSEGV"):
            next(results)

    def test_a_time_limit(self) -> None:
        def slow() -> Iterator[int]:
            yield 1
            time.sleep(60)

        results, start = in_child(slow, soon(0.3)), time.monotonic()
        assert next(results) == 1
        with pytest.raises(TimeoutError):
            next(results)
        assert time.monotonic() - start < 10

    def test_no_process_and_no_file_is_left(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        results = in_child(lambda: iter(range(10**9)), soon())
        assert next(results) == 0
        results.close()  # type: ignore[attr-defined]
        [*in_child(lambda: iter([1]), soon())]
        assert len(os.listdir("/proc/self/fd")) == before
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


class TestCrashes:
    def test_a_crash_of_a_custom_function_is_a_finding(self) -> None:
        report = check_gradients(Blocks, [(numbers(4, 3),)], checks=CHECKS)
        assert report.grade == "gradient right"
        assert "crash at size 4 changed to 1, size 4 changed to 2" in report.verdict
        assert "CRASH: the function ended the process (SIGSEGV): name the sizes that it takes by axes=" in str(report)
        checked = {result.variant for result in report.results if result.status == "passed"}
        assert {"size 4 changed to 8", "size 4 changed to 256"} <= checked
        assert "left out: the rest: 5 crashes" in str(report)

    def test_the_checks_go_on_after_it(self) -> None:
        report = check_gradients(Blocks, [Sample((numbers(4, 3),), axes="n=3|4|8 _")], checks=CHECKS)
        assert [result.variant for result in report.failures] == ["n changed to 3"]
        checked = {result.variant for result in report.results if result.status == "passed"}
        assert {"n changed to 8", "as given, added to .grad"} <= checked

    def test_it_is_none_with_the_axes_named(self) -> None:
        report = check_gradients(Blocks, [Sample((numbers(4, 3),), axes="4 n")], checks=CHECKS)
        assert report.grade == "right", str(report)

    def test_a_crash_where_the_reference_is_finite_is_a_failure(self) -> None:
        def blocks(x: Tensor) -> Tensor:
            return crash() if x.shape[0] % 4 else 2 * x  # type: ignore[func-returns-value]

        report = check_gradients(blocks, [(numbers(4, 3),)], reference=lambda x: 2 * x)
        assert failed(report).keys() == {"crash"}
        plain = check_gradients(blocks, [(numbers(4, 3),)])
        assert plain.passed, str(plain)
        assert "crashes at size 4 changed to 1" in plain.verdict

    def test_a_crash_at_the_sample_is_an_error(self) -> None:
        with pytest.raises(CannotCheck, match=r"sample 1: the function ended the process \(SIGSEGV\)"):
            check_gradients(Blocks, [(numbers(4),), (numbers(3),)])

    @pytest.mark.parametrize("where", ["layouts", "linearity", "gradient in bfloat16"])
    def test_a_crash_in_any_check_is_a_finding(self, where: str) -> None:
        class Crashing(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                if (where == "layouts" and not x.is_contiguous()) or (x.dtype == torch.bfloat16 and len(x) > 4):
                    crash()
                return 2 * x

            @staticmethod
            def backward(ctx: Any, grad_output: Tensor) -> Tensor:
                return crash() if where == "linearity" and not grad_output.any() else 2 * grad_output  # type: ignore[func-returns-value]

        report = check_gradients(
            Crashing, [(numbers(4, 3).to(torch.bfloat16 if where.endswith("16") else torch.float32),)]
        )
        assert f"crash at {where}" in report.verdict
        assert {"saved tensors", "double backward"} <= {result.check for result in report.results}

    def test_a_hang_is_left_out(self) -> None:
        class Hanging(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                return 2 * x

            @staticmethod
            def backward(ctx: Any, grad_output: Tensor) -> Tensor:
                if not grad_output.any():
                    time.sleep(60)
                return 2 * grad_output

        start = time.monotonic()
        assert "left out: linearity: no time left" in str(check_gradients(Hanging, [(numbers(3),)], seconds=1.0))
        assert time.monotonic() - start < 20


class SlowLinear(torch.autograd.Function):
    """A linear layer with a slow forward, and a bias gradient that is averaged."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        time.sleep(0.01)
        return x @ w + b

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return g @ w.T, x.T @ g, g.mean(0)


class TestTime:
    def test_every_input_is_compared_before_the_time_is_up(self) -> None:
        report = check_gradients(SlowLinear, [(numbers(4, 3), numbers(3, 2), numbers(2))], seconds=3.0)
        assert {result.input for result in report.failures if result.check == "gradient"} == {"b"}

    def test_the_time_is_limited_and_the_rest_named(self) -> None:
        def slow(x: Tensor) -> Tensor:
            time.sleep(0.01)
            return x.sin()

        start = time.monotonic()
        report = check_gradients(slow, [(numbers(4, 3),)], seconds=1.5)
        assert time.monotonic() - start < 6
        assert report.passed
        assert "no time left" in str(report)
        assert "gradient right in float64" in report.verdict

    def test_samples_share_the_time(self) -> None:
        def slow(x: Tensor) -> Tensor:
            time.sleep(0.005)
            return x.sin()

        report = check_gradients(slow, [(numbers(3),), (numbers(2),)], seconds=1.5)
        assert {result.sample for result in report.results if result.check == "gradient"} == {0, 1}
