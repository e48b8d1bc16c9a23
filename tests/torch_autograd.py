"""Anota en torch_autograd.json las derivadas de orden 1, 2 y 3 que da PyTorch.

    python -m tests.torch_autograd

Así las pruebas comparan con PyTorch también donde no está instalado.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.expressions import CASE_IDS, CASES

PATH = Path(__file__).with_name('torch_autograd.json')
ORDERS = 3


def derivatives(
    output: Any, inputs: list[Any], grad: Callable[[Any, list[Any]], Any], orders: int = ORDERS
) -> list[list[Any]]:
    """Todas las derivadas de cada orden: las primeras, las de cada una de las primeras..."""
    level, found = [output], []
    for _ in range(orders):
        level = [g for out in level for g in grad(out, inputs)]
        found.append(level)
    return found


def torch_grad(output: Any, inputs: list[Any]) -> list[Any]:
    """torch.autograd.grad, con 0 para las entradas que no intervienen."""
    import torch

    zero = torch.zeros((), dtype=torch.float64)
    if not output.requires_grad:
        return [zero] * len(inputs)
    grads = torch.autograd.grad(output, inputs, create_graph=True, allow_unused=True)
    return [zero if g is None else g for g in grads]


def evaluate(function: Callable[..., Any], point: tuple[float, ...]) -> list[list[float]]:
    import torch

    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in point]
    levels = derivatives(function(*leaves), leaves, torch_grad)
    return [[g.item() for g in level] for level in levels]


def main() -> None:
    reference = {
        key: evaluate(expression.function, point)
        for key, (expression, point) in zip(CASE_IDS, CASES, strict=True)
    }
    lines = [json.dumps({key: x}, ensure_ascii=False)[1:-1] for key, x in reference.items()]
    PATH.write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')


if __name__ == '__main__':
    main()
