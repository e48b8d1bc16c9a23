"""Anota en torch_nn.json lo que PyTorch calcula con las pérdidas y los optimizadores.

    python -m tests.torch_nn

Así las pruebas comparan con PyTorch también donde no está instalado.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

PATH = Path(__file__).with_name('torch_nn.json')
INDICES = ('cross_entropy', 'nll_loss')


class Loss(NamedTuple):
    """Una función de functional con sus argumentos."""

    function: str
    prediction: Any
    target: Any
    reduction: str = 'mean'
    smoothing: float = 0.0


LOSSES = [
    Loss('softmax', [0.5, -1.0, 2.0], None),
    Loss('softmax', [1000.0, -1000.0, 999.0], None),
    Loss('softmax', [-1000.0, -1000.0, -1e6], None),
    Loss('softmax', [3.0], None),
    Loss('softmax', [[0.5, -1.0], [700.0, 710.0]], None),
    Loss('mse_loss', 0.5, 2.0),
    Loss('mse_loss', [0.5, -1.0, 3.0], [1.0, 1.0, 3.0]),
    Loss('mse_loss', [0.5, -1.0, 3.0], [1.0, 1.0, 3.0], 'sum'),
    Loss('mse_loss', [[0.5, -1.0], [1e3, 0.0]], [[1.0, 1.0], [-1e3, 2.0]]),
    Loss('hinge_loss', 0.5, 1),
    Loss('hinge_loss', [0.5, -1.5, 3.0, 1000.0], [-1, 1, 1, -1]),
    Loss('hinge_loss', [0.5, -1.5, 3.0], [-1, 1, 1], 'sum'),
    Loss('hinge_loss', [[0.5], [-2.0]], [[-1], [-1]]),
    Loss('binary_cross_entropy', 0.3, 1),
    Loss('binary_cross_entropy', [0.3, 0.9, 1e-10, 1 - 1e-10], [0, 1, 1, 0]),
    Loss('binary_cross_entropy', [0.3, 0.9, 0.5], [0.25, 0.5, 1], 'sum'),
    Loss('binary_cross_entropy', [[0.3, 0.9]], [[1, 0]]),
    Loss('binary_cross_entropy_with_logits', 0.0, 1),
    Loss('binary_cross_entropy_with_logits', [0.0, 2.0, -3.0], [0, 1, 0.25]),
    Loss('binary_cross_entropy_with_logits', [1000.0, 1000.0, -1000.0, -1000.0], [0, 1, 0, 1]),
    Loss('binary_cross_entropy_with_logits', [40.0, -40.0], [0.5, 0.5], 'sum'),
    Loss('cross_entropy', [0.5, -1.0, 2.0], 0),
    Loss('cross_entropy', [0.5, -1.0, 2.0], [0.2, 0.3, 0.5]),
    Loss('cross_entropy', [0.5, -1.0, 2.0], [0.0, 1.0, 0.0]),
    Loss('cross_entropy', [1000.0, -1000.0, 999.0], 0),
    Loss('cross_entropy', [1000.0, -1000.0, 999.0], 1),
    Loss('cross_entropy', [-1000.0, -1000.0, -1001.0], 2),
    Loss('cross_entropy', [1000.0, -1000.0], [0.5, 0.5]),
    Loss('cross_entropy', [[0.5, -1.0], [2.0, 2.0], [-1000.0, 1000.0]], [0, 1, 0]),
    Loss('cross_entropy', [[0.5, -1.0], [2.0, 2.0]], [0, 1], 'sum'),
    Loss('cross_entropy', [[0.5, -1.0], [2.0, 2.0]], [[0.9, 0.1], [0.5, 0.5]]),
    Loss('cross_entropy', [0.5, -1.0, 2.0], 0, smoothing=0.1),
    Loss('cross_entropy', [0.5, -1.0, 2.0], [0.2, 0.3, 0.5], smoothing=0.3),
    Loss('cross_entropy', [[0.5, -1.0], [2.0, 800.0]], [0, 0], 'sum', smoothing=0.5),
    Loss('cross_entropy', [0.5, -1.0, 2.0], 1, smoothing=1.0),
    Loss('log_softmax', [0.5, -1.0, 2.0], None),
    Loss('log_softmax', [800.0, 0.0, -1000.0], None),
    Loss('log_softmax', [3.0], None),
    Loss('log_softmax', [[0.5, -1.0], [700.0, 710.0]], None),
    Loss('softplus', 0.0, None),
    Loss('softplus', [0.5, -1.0, 19.0, 40.0, -40.0, 1000.0, -1000.0], None),
    Loss('softplus', [[0.5, -1.0], [0.0, 3.0]], None),
    Loss('nll_loss', [-0.5, -1.0, -2.0], 1),
    Loss('nll_loss', [[-0.5, -1.0], [-2.0, 0.0], [-3.0, -4.0]], [0, 1, 1]),
    Loss('nll_loss', [[-0.5, -1.0], [-2.0, 0.0]], [1, 1], 'sum'),
    Loss('mse_loss', 0.5, 2.0, 'none'),
    Loss('mse_loss', [[0.5, -1.0], [1e3, 0.0]], [[1.0, 1.0], [-1e3, 2.0]], 'none'),
    Loss('hinge_loss', [0.5, -1.5, 3.0], [-1, 1, 1], 'none'),
    Loss('binary_cross_entropy', [1e-6, 1e-5, 0.5], [0, 0, 0], 'none'),
    Loss('binary_cross_entropy', [0.3, 0.9, 0.5], [0.25, 0.5, 1], 'none'),
    Loss('binary_cross_entropy_with_logits', [-40.0, 40.0, -700.0, 700.0], [0, 1, 0, 1], 'none'),
    Loss('binary_cross_entropy_with_logits', [15.0, -15.0, 3.0, 0.0], [0, 1, 0.3, 0.5], 'none'),
    Loss('cross_entropy', [[0.5, -1.0], [2.0, 2.0]], [0, 1], 'none'),
    Loss('cross_entropy', [0.5, -1.0, 2.0], 0, 'none'),
    Loss('nll_loss', [[-0.5, -1.0], [-2.0, 0.0]], [1, 1], 'none'),
]

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ('SGD', {'lr': 0.1}),
    ('SGD', {'lr': 0.1, 'momentum': 0.9}),
    ('SGD', {'lr': 0.1, 'momentum': 0.9, 'nesterov': True}),
    ('SGD', {'lr': 0.1, 'weight_decay': 0.2}),
    ('SGD', {'lr': 0.1, 'momentum': 0.5, 'nesterov': True, 'weight_decay': 0.2}),
    ('Adam', {}),
    ('Adam', {'lr': 0.1}),
    ('Adam', {'lr': 0.1, 'betas': [0.5, 0.9]}),
    ('Adam', {'lr': 0.1, 'betas': [0.0, 0.0]}),
    ('Adam', {'lr': 0.1, 'eps': 0.1}),
    ('Adam', {'lr': 0.1, 'weight_decay': 0.2}),
    ('AdamW', {}),
    ('AdamW', {'lr': 0.1}),
    ('AdamW', {'lr': 0.1, 'weight_decay': 0.0}),
    ('AdamW', {'lr': 0.1, 'betas': [0.5, 0.9], 'eps': 0.1, 'weight_decay': 0.2}),
]

WEIGHTS = [0.5, -1.2, 2.0, 0.0, 0.3]
STEPS = (1, 10, 100)


def network_loss(a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    """La pérdida de una neurona que se ajusta a dos puntos; `e` no interviene."""
    h = (a * 0.7 + b * -1.3 + c).tanh()
    return (h * d - 0.5) ** 2 + ((a * 2 + b + c).tanh() - 1) ** 2 + 0 * e


def key(case: Any) -> str:
    return ' '.join(str(part) for part in case)


def evaluate_loss(case: Loss) -> dict[str, Any]:
    """El valor y los gradientes, según PyTorch en float64.

    De varios números se deriva una suma en la que cada uno cuenta según su posición en la fila.
    """
    import torch
    from torch.nn import functional

    z: Any = torch.tensor(case.prediction, dtype=torch.float64, requires_grad=True)
    y = None if case.target is None else torch.tensor(case.target)
    if y is not None and (case.function not in INDICES or y.is_floating_point()):
        y = torch.tensor(case.target, dtype=torch.float64)  # si no, son índices
    out: Any
    if case.function == 'softplus':
        out = torch.logaddexp(z, torch.zeros_like(z))  # la de functional pierde e^-x desde x = 20
    elif case.target is None:
        out = getattr(functional, case.function)(z, dim=-1)
    elif case.function == 'hinge_loss':
        zero = torch.zeros_like(z)
        out = functional.margin_ranking_loss(z, zero, y, margin=1, reduction=case.reduction)
    else:
        options = {'label_smoothing': case.smoothing} if case.smoothing else {}
        out = getattr(functional, case.function)(z, y, reduction=case.reduction, **options)
    weights = torch.ones_like(out).cumsum(-1) if out.ndim else 1
    (out * weights).sum().backward()
    return {'value': out.tolist(), 'grads': z.grad.tolist()}


def weights_after_steps(optimizer: Any, weights: list[Any]) -> list[list[float]]:
    """Los pesos después de 1, de 10 y de 100 pasos; sirve igual para Values y para tensores."""
    after = []
    for step in range(1, max(STEPS) + 1):
        optimizer.zero_grad()
        network_loss(*weights).backward()
        optimizer.step()
        if step in STEPS:
            after.append([float(w.data) for w in weights])
    return after


def evaluate_optimizer(case: tuple[str, dict[str, Any]]) -> list[list[float]]:
    """Los pesos después de 1, de 10 y de 100 pasos, según PyTorch en float64."""
    import torch

    name, options = case
    weights = [torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in WEIGHTS]
    return weights_after_steps(getattr(torch.optim, name)(weights, **options), weights)


def main() -> None:
    reference: dict[str, Any] = {key(case): evaluate_loss(case) for case in LOSSES}
    reference |= {key(case): evaluate_optimizer(case) for case in OPTIMIZERS}
    text = json.dumps(reference, indent=1, ensure_ascii=False)
    PATH.write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
