"""Anota en torch_reference.json lo que PyTorch calcula para la tabla de expressions.py.

    python -m tests.torch_reference

Así las pruebas comparan con PyTorch también donde no está instalado.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.expressions import CASE_IDS, CASES, Expression

PATH = Path(__file__).with_name('torch_reference.json')


def evaluate(expression: Expression, point: tuple[float, ...]) -> dict[str, Any]:
    """El valor y los gradientes de la expresión en ese punto, según PyTorch en float64."""
    import torch

    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in point]
    out = expression.function(*leaves)
    out.backward()
    grads = [0.0 if leaf.grad is None else leaf.grad.item() for leaf in leaves]
    return {'value': out.item(), 'grads': grads}


def main() -> None:
    reference = {
        key: evaluate(expression, point)
        for key, (expression, point) in zip(CASE_IDS, CASES, strict=True)
    }
    text = json.dumps(reference, indent=1, ensure_ascii=False)
    PATH.write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
