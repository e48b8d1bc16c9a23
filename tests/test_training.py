"""Entrenamientos enteros al lado de un gemelo en PyTorch, línea por línea, y de micrograd."""

from __future__ import annotations

import math
import random
from typing import Any

import micrograd.nn
import numpy as np
import pytest

from michigrad.engine import Value
from michigrad.functional import cross_entropy, hinge_loss, mse_loss
from michigrad.nn import MLP, Layer, Module, Sequential, Tanh
from michigrad.optim import SGD, Adam
from tests.needs import need

STEPS = 50


def moons(count: int) -> tuple[Any, Any]:
    """Dos medialunas entrelazadas, con ruido; las clases son -1 y 1."""
    rng = np.random.default_rng(1337)
    angle = rng.uniform(0, math.pi, count)
    label = np.where(np.arange(count) % 2 == 0, 1, -1)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    points = np.where(label[:, None] == 1, lower, upper) + rng.normal(0, 0.1, (count, 2))
    return points, label


def three_clouds(count: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(7)
    label = np.arange(count) % 3
    centers = np.array([[0.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    return centers[label] + rng.normal(0, 0.5, (count, 2)), label


def twin(layer: Layer) -> Any:
    """La misma capa en PyTorch, con los mismos pesos."""
    import torch

    linear = torch.nn.Linear(len(layer.neurons[0].w), len(layer.neurons), dtype=torch.float64)
    with torch.no_grad():
        linear.weight[:] = torch.tensor(
            [[w.data for w in n.w] for n in layer.neurons], dtype=torch.float64
        )
        linear.bias[:] = torch.tensor([n.b.data for n in layer.neurons], dtype=torch.float64)
    return linear


def test_xor_with_tanh_equals_pytorch() -> None:
    torch = need('torch')
    X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0.0, 1.0, 1.0, 0.0]
    random.seed(42)
    layers = Layer(2, 4, nonlin=False), Layer(4, 1, nonlin=False)

    model = Sequential(layers[0], Tanh(), layers[1])
    torch_model = torch.nn.Sequential(twin(layers[0]), torch.nn.Tanh(), twin(layers[1]))

    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch_optimizer = torch.optim.SGD(torch_model.parameters(), lr=0.1, momentum=0.9)

    torch_X = torch.tensor(X, dtype=torch.float64)
    torch_y = torch.tensor(y, dtype=torch.float64)

    losses = []
    for _ in range(STEPS):
        loss = mse_loss([model(x) for x in X], y)
        torch_loss = torch.nn.functional.mse_loss(torch_model(torch_X).squeeze(1), torch_y)

        optimizer.zero_grad()
        torch_optimizer.zero_grad()

        loss.backward()
        torch_loss.backward()

        optimizer.step()
        torch_optimizer.step()

        losses.append(loss.data)
        assert loss.data == pytest.approx(torch_loss.item(), rel=0, abs=1e-9)
    assert losses[-1] < losses[0] / 2


def test_moons_with_max_margin_equals_pytorch() -> None:
    torch = need('torch')
    X, y = moons(40)
    random.seed(1337)

    model = MLP(2, [8, 8, 1])
    first, second, third = (twin(layer) for layer in model.layers)
    relu = torch.nn.ReLU()
    torch_model = torch.nn.Sequential(first, relu, second, relu, third)

    optimizer = SGD(model.parameters(), lr=1.0)
    torch_optimizer = torch.optim.SGD(torch_model.parameters(), lr=1.0)

    torch_X = torch.tensor(X, dtype=torch.float64)
    torch_y = torch.tensor(y, dtype=torch.float64)

    losses = []
    for step in range(STEPS):
        loss = hinge_loss([model(x) for x in X], y)
        torch_loss = (1 - torch_y * torch_model(torch_X).squeeze(1)).relu().mean()

        loss = loss + 1e-4 * sum(p * p for p in model.parameters())
        torch_loss = torch_loss + 1e-4 * sum((p * p).sum() for p in torch_model.parameters())

        optimizer.zero_grad()
        torch_optimizer.zero_grad()

        loss.backward()
        torch_loss.backward()

        optimizer.lr = 1.0 - 0.9 * step / STEPS
        torch_optimizer.param_groups[0]['lr'] = 1.0 - 0.9 * step / STEPS

        optimizer.step()
        torch_optimizer.step()

        losses.append(loss.data)
        assert loss.data == pytest.approx(torch_loss.item(), rel=0, abs=1e-9)
    assert losses[-1] < losses[0] / 2


def test_three_classes_with_softmax_equals_pytorch() -> None:
    torch = need('torch')
    X, y = three_clouds(30)
    random.seed(3)
    layers = Layer(2, 6, nonlin=False), Layer(6, 3, nonlin=False)

    model = Sequential(layers[0], Tanh(), layers[1])
    torch_model = torch.nn.Sequential(twin(layers[0]), torch.nn.Tanh(), twin(layers[1]))

    optimizer = Adam(model.parameters(), lr=0.05)
    torch_optimizer = torch.optim.Adam(torch_model.parameters(), lr=0.05)

    torch_X = torch.tensor(X, dtype=torch.float64)
    torch_y = torch.tensor(y)

    losses = []
    for _ in range(STEPS):
        loss = cross_entropy([model(x) for x in X], y)
        torch_loss = torch.nn.functional.cross_entropy(torch_model(torch_X), torch_y)

        optimizer.zero_grad()
        torch_optimizer.zero_grad()

        loss.backward()
        torch_loss.backward()

        optimizer.step()
        torch_optimizer.step()

        losses.append(loss.data)
        assert loss.data == pytest.approx(torch_loss.item(), rel=0, abs=1e-9)
    assert losses[-1] < losses[0] / 2


def train_on_moons(model: Any, mean_hinge: Any) -> list[float]:
    """La demostración de micrograd, con el mismo código para las dos bibliotecas."""
    X, y = moons(20)
    losses = []
    for step in range(20):
        loss = mean_hinge([model(x) for x in X], y)
        loss = loss + 1e-4 * sum(p * p for p in model.parameters())
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= (1.0 - 0.9 * step / 100) * p.grad
        losses.append(loss.data)
    return losses


def test_moons_equals_micrograd() -> None:
    def by_hand(scores: list[Any], y: Any) -> Any:
        losses = [(1 + -yi * score).relu() for yi, score in zip(y.tolist(), scores, strict=True)]
        return sum(losses) * (1.0 / len(losses))

    random.seed(1337)
    theirs = train_on_moons(micrograd.nn.MLP(2, [8, 8, 1]), by_hand)
    for mean_hinge in (by_hand, hinge_loss):
        random.seed(1337)
        ours = train_on_moons(MLP(2, [8, 8, 1]), mean_hinge)
        assert ours == pytest.approx(theirs, rel=0, abs=1e-9)
    assert theirs[-1] < theirs[0] / 2


def test_moons_by_hand_equals_sgd() -> None:
    """El lazo escrito a mano y el optimizador dan los mismos pesos, hasta el último bit."""
    X, y = moons(10)

    def train(update: Any) -> list[float]:
        random.seed(0)
        model = MLP(2, [4, 1])
        step = update(model)
        for _ in range(10):
            model.zero_grad()
            hinge_loss([model(x) for x in X], y).backward()
            step()
        return [p.data for p in model.parameters()]

    def by_hand(model: Module) -> Any:
        def step() -> None:
            for p in model.parameters():
                p.data -= 0.1 * p.grad

        return step

    assert train(lambda model: SGD(model.parameters(), lr=0.1).step) == train(by_hand)


def test_xor_needs_a_nonlinearity() -> None:
    """Con tanh se resuelve; la red lineal se queda en un error de 1/4."""
    X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0.0, 1.0, 1.0, 0.0]

    def train(model: Module) -> Value:
        optimizer = Adam(model.parameters(), lr=0.05)
        for _ in range(300):
            loss: Value = mse_loss([model(x) for x in X], y)  # type: ignore[operator]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss

    random.seed(42)
    tanh = Sequential(Layer(2, 4, nonlin=False), Tanh(), Layer(4, 1, nonlin=False))
    assert train(tanh) < 1e-3
    assert train(MLP(2, [4, 1], nonlin=False)).data == pytest.approx(0.25, abs=1e-3)
