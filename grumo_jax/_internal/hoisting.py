"""Hoist loop-invariant code: what is the same in every iteration is computed before the loop.

XLA hoists little of it. On CPUs it also has no fast routine, inside a loop, for the transposed
convolutions of a backward pass: it folds the flip of the kernel and the swap of its channels into
the convolution, which then takes many times as long (`benchmarks/batching.py`). So on CPUs each
kernel is materialised in its plain layout first.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend import core

CHEAP = ("broadcast_in_dim", "iota")
"""Primitives that are repeated in every iteration anyway: storing costs more than computing."""


def hoist_invariants(
    function: Callable[[Any], Any], element: Any, *, on_cpu: bool
) -> Callable[[Any], Any]:
    """Return the function with everything that does not depend on its argument hoisted.

    The function is traced once, and the hoisted part is computed by this call: make it outside
    the loop, and call what it returns inside.

    Args:
        function: maps a pytree of arrays to another; it may close over traced values.
        element: an argument, or its shapes and dtypes (`jax.ShapeDtypeStruct`).
        on_cpu: whether the loop runs on CPUs, so that convolution kernels are materialised.

    Returns:
        A function of one argument with the shapes and dtypes of `element`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> weights = jnp.arange(3.0)
        >>> ready = hoist_invariants(lambda x: x * jnp.sum(weights), jnp.zeros(()), on_cpu=True)
        >>> [str(e.primitive) for e in jax.make_jaxpr(ready)(1.0).eqns]  # the sum is hoisted
        ['mul']
        >>> jax.lax.map(ready, jnp.arange(2.0))
        Array([0., 3.], dtype=float32)
    """
    traced, form = jax.make_jaxpr(function, return_shape=True)(element)
    names = itertools.count()
    known: dict[int, Any] = {}
    steps: list[_Step] = []
    inputs = [next(names) for _ in traced.jaxpr.invars]
    outputs = _flatten(traced, inputs, names, known, steps, on_cpu)
    remaining = _run_what_is_fixed(steps, set(inputs), known)

    def ready(x: Any) -> Any:
        values = known | dict(zip(inputs, jax.tree.leaves(x), strict=True))
        for step in remaining:
            step.run(values, plain_kernels=on_cpu)
        results = [values[name] for name in outputs]
        return jax.tree.unflatten(jax.tree.structure(form), results)

    return ready


@dataclass(frozen=True)
class _Step:
    """One equation of a jaxpr; its operands and results are named by numbers."""

    equation: Any
    inputs: Sequence[int]
    outputs: Sequence[int]

    def run(self, values: dict[int, Any], plain_kernels: bool) -> None:
        """Compute the results and add them to the values."""
        primitive, parameters = self.equation.primitive, self.equation.params
        operands = [values[name] for name in self.inputs]
        if primitive.name == "conv_general_dilated" and plain_kernels:
            result = _convolve(*operands, **parameters)
        else:
            result = primitive.bind(*operands, **primitive.get_bind_params(parameters))
        results = result if primitive.multiple_results else [result]
        values.update(zip(self.outputs, results, strict=True))


def _flatten(
    program: core.ClosedJaxpr,
    inputs: Sequence[int],
    names: Iterator[int],
    known: dict[int, Any],
    steps: list[_Step],
    on_cpu: bool,
) -> list[int]:
    """Append a jaxpr's steps, inlining inner `jit` calls; return the names of its outputs."""
    named: dict[Any, int] = dict(zip(program.jaxpr.invars, inputs, strict=True))

    def name_of(variable: Any) -> int:
        if not isinstance(variable, core.Literal):
            return named[variable]
        name = next(names)
        known[name] = variable.val
        return name

    for variable, value in zip(program.jaxpr.constvars, program.consts, strict=True):
        named[variable] = next(names)
        known[named[variable]] = value
    for equation in program.jaxpr.eqns:
        operands = [name_of(variable) for variable in equation.invars]
        if equation.primitive.name == "jit":
            called = equation.params["jaxpr"]
            results = _flatten(called, operands, names, known, steps, on_cpu)
        elif on_cpu and (called := _branch_of_cpus(equation)) is not None:
            results = _flatten(called, operands[1:], names, known, steps, on_cpu)
        else:
            results = [next(names) for _ in equation.outvars]
            steps.append(_Step(equation, operands, results))
        named.update(zip(equation.outvars, results, strict=True))
    return [name_of(variable) for variable in program.jaxpr.outvars]


def _branch_of_cpus(equation: Any) -> core.ClosedJaxpr | None:
    """The CPU branch of a `jax.lax.platform_dependent`; None for other equations."""
    platforms = equation.params.get("branches_platforms") or ()
    # The default branch, the last one, has None for its platforms.
    places = (i for i, names in enumerate(platforms) if names is None or "cpu" in names)
    place = next(places, None)
    return None if place is None else equation.params["branches"][place]


def _run_what_is_fixed(
    steps: Sequence[_Step], varying: set[int], known: dict[int, Any]
) -> list[_Step]:
    """Run the loop-invariant steps; return the others, and the cheap ones again."""
    remaining = []
    for step in steps:
        if varying.intersection(step.inputs):
            varying.update(step.outputs)
            remaining.append(step)
            continue
        # Bound unchanged, so that XLA merges it with equal expressions outside the loop (CSE).
        step.run(known, plain_kernels=False)
        if step.equation.primitive.name in CHEAP:
            remaining.append(step)
    return remaining


def _convolve(images: jax.Array, kernel: jax.Array, **parameters: Any) -> jax.Array:
    """Convolve with a kernel that is first materialised as (height, width, in, out)."""
    numbers = parameters.pop("dimension_numbers")
    out, into, *space = numbers.rhs_spec
    # The barrier keeps XLA from folding the transpose, and a flip before it, into the convolution.
    plain = jax.lax.optimization_barrier(jax.lax.transpose(kernel, (*space, into, out)))
    axes = (len(space) + 1, len(space), *range(len(space)))
    numbers = jax.lax.ConvDimensionNumbers(numbers.lhs_spec, axes, numbers.out_spec)
    primitive: Any = jax.lax.conv_general_dilated_p
    return primitive.bind(images, plain, dimension_numbers=numbers, **parameters)
