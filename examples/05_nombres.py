"""Generar texto: una red que lee tres letras y adivina la que sigue inventa nombres.

    python -m pip install -e ".[examples]"
    python examples/05_nombres.py

Aprende de nombres de pila en español con un MLP de letras (Bengio et al., 2003): cada letra es un
vector que se aprende (su embedding), y los de las tres últimas letras entran a una capa tanh que
reparte probabilidades entre las que pueden seguir. Se lo compara con contar pares de letras
(bigramas) sobre nombres que no vio.

Imprime los nombres que inventa antes y después de entrenar, y dibuja la pérdida (05_nombres.png).
Tarda unos 5 segundos.
"""

from __future__ import annotations

import math
import random
import unicodedata
from pathlib import Path
from typing import Any

from common import BLUE, GRAY, ORANGE, extras, list_names, read_options, save_picture, subplots

with extras('examples'):
    import numpy as np
    import numpy.typing as npt
    from faker.providers.person import es_AR, es_CL, es_CO, es_ES, es_MX
    from tqdm import trange

from michigrad.engine import Value
from michigrad.functional import cross_entropy, softmax
from michigrad.nn import Layer, Module, Sequential, Tanh
from michigrad.optim import Adam
from michigrad.tape import ParameterArray, Tape

LETTERS = '.abcdefghijklmnopqrstuvwxyzáéíñóú'  # el punto marca el principio y el final
CONTEXT, EMBEDDING, HIDDEN = 3, 5, 64
BATCH = 64
Floats = npt.NDArray[np.float64]
ONE_HOT = dict(zip(LETTERS, np.eye(len(LETTERS)).tolist(), strict=True))


def load_names() -> list[str]:
    """Los nombres de pila en español que trae faker, en minúscula y de una sola palabra."""
    names: set[str] = set()
    for country in (es_AR, es_CL, es_CO, es_ES, es_MX):
        names |= {*country.Provider.first_names_female, *country.Provider.first_names_male}
    clean = {unicodedata.normalize('NFC', name.lower()) for name in names}
    return sorted(name for name in clean if set(name) <= set(LETTERS))


def build_rows(names: list[str]) -> Floats:
    """Una fila por letra que adivinar: las CONTEXT anteriores y la que sigue, en one-hot."""
    rows = []
    for name in names:
        text = '.' * CONTEXT + name + '.'
        for i in range(len(name) + 1):
            window = text[i : i + CONTEXT + 1]
            rows.append([x for letter in window for x in ONE_HOT[letter]])
    return np.array(rows)


def bigram_loss(train: list[str], test: list[str]) -> float:
    """La vara: la pérdida en `test` de contar en `train` qué letra sigue a cada una."""
    index = {letter: i for i, letter in enumerate(LETTERS)}
    counts = np.ones((len(LETTERS), len(LETTERS)))  # 1 y no 0: nada es imposible
    for name in train:
        for a, b in zip(f'.{name}', f'{name}.', strict=True):
            counts[index[a], index[b]] += 1
    probabilities = counts / counts.sum(axis=1, keepdims=True)
    pairs = [(index[a], index[b]) for n in test for a, b in zip(f'.{n}', f'{n}.', strict=True)]
    return float(-np.mean([math.log(probabilities[a, b]) for a, b in pairs]))


class NameModel(Module):
    """Los logits de la próxima letra a partir de las CONTEXT anteriores."""

    def __init__(self) -> None:
        self.embedding = Layer(len(LETTERS), EMBEDDING, nonlin=False)
        output = Layer(HIDDEN, len(LETTERS), nonlin=False)
        for p in output.parameters():
            p.data *= 0.1  # que al principio todas las letras sean casi igual de probables
        hidden = Layer(CONTEXT * EMBEDDING, HIDDEN, nonlin=False)
        self.network = Sequential(hidden, Tanh(), output)

    def __call__(self, letters: list[Any]) -> list[Value]:
        """`letters` son CONTEXT vectores one-hot: multiplicar por uno es elegir un embedding."""
        x = [xi for letter in letters for xi in self.embedding(letter)]
        logits: list[Value] = self.network(x)
        return logits

    def parameters(self) -> list[Value]:
        return self.embedding.parameters() + self.network.parameters()


def invent(model: NameModel, rng: random.Random) -> str:
    """Sortea letra por letra, cada una según el modelo, hasta que sale el punto."""
    name = ''
    while len(name) < 15:
        last = ('.' * CONTEXT + name)[-CONTEXT:]
        probabilities = softmax(model([ONE_HOT[letter] for letter in last]))
        letter = rng.choices(LETTERS, [p.data for p in probabilities])[0]
        if letter == '.':
            break
        name += letter
    return name or invent(model, rng)  # si lo primero fue el punto, no hay nombre: otra vez


def record(model: NameModel) -> tuple[Tape, ParameterArray]:
    """Graba la pérdida de una letra: las entradas son el contexto y la letra que sigue."""
    letters = [[Value(x) for x in ONE_HOT['.']] for _ in range(CONTEXT + 1)]
    loss = cross_entropy(model(letters[:CONTEXT]), letters[CONTEXT])
    weights = ParameterArray(model.parameters())
    return Tape(loss, [x for letter in letters for x in letter], weights), weights


def train(
    tape: Tape, weights: ParameterArray, rows: Floats, test: Floats, steps: int
) -> list[tuple[int, float, float]]:
    """Entrena con Adam; devuelve (paso, pérdida de entrenamiento, pérdida de prueba)."""
    rng = np.random.default_rng(42)
    optimizer = Adam([weights])
    curve: list[tuple[int, float, float]] = []
    bar = trange(steps + 1, desc='entrenando', unit='paso', mininterval=1)
    for i in bar:
        if i % (steps // 20) == 0:
            curve.append((i, tape.forward(rows).mean(), tape.forward(test).mean()))
            bar.set_postfix_str(f'pérdida {curve[-1][1]:.3f}', refresh=False)
        optimizer.lr = 0.01 * (1 - i / (steps + 1))
        optimizer.zero_grad()
        tape.forward(rows[rng.integers(len(rows), size=BATCH)])
        tape.backward()
        optimizer.step()
    return curve


def draw(
    path: Path,
    curve: list[tuple[int, float, float]],
    bigram: float,
    before: list[str],
    after: list[str],
) -> None:
    steps, fit, test = zip(*curve, strict=True)
    fig, (ax, text) = subplots(1, 2, height=6, width_ratios=(3, 2))
    ax.plot(steps, fit, color=BLUE, linewidth=2.5, label='nombres que ve')
    ax.plot(steps, test, color=ORANGE, linewidth=2.5, label='nombres que no ve')
    ax.axhline(bigram, color=GRAY, linestyle='--', label='contar bigramas')
    ax.set(xlabel='paso', ylabel='pérdida por letra', title='Adivinar la letra que sigue')
    ax.legend()
    list_names(text, {'antes': before, 'después': after})
    save_picture(fig, path)


def main() -> None:
    options = read_options(__doc__, '--rapido', '--salida')
    random.seed(42)
    rng = random.Random(42)
    names = load_names()
    rng.shuffle(names)
    test, fit = names[: len(names) // 10], names[len(names) // 10 :]
    bigram = bigram_loss(fit, test)
    model = NameModel()
    before = [invent(model, rng) for _ in range(8)]

    tape, weights = record(model)
    steps = 400 if options.rapido else 6000
    curve = train(tape, weights, build_rows(fit), build_rows(test), steps)
    weights.write_back()
    after = [invent(model, rng) for _ in range(8)]

    print(f'{len(names)} nombres, {len(weights.data)} parámetros, {steps} pasos')
    print('Antes:  ', *before)
    print('Después:', *after)
    print(f'Pérdida en nombres que no vio: {curve[-1][2]:.3f} (contar bigramas: {bigram:.3f})')
    draw(options.salida / '05_nombres.png', curve, bigram, before, after)


if __name__ == '__main__':
    main()
