"""Un GPT mínimo, hecho nada más que de Values, que aprende nombres y después los inventa.

    python -m pip install -e ".[examples]"
    python examples/06_gpt.py

Es la arquitectura de GPT en chico: embeddings de letra y de posición, un bloque de atención causal
con varias cabezas, un MLP, RMSNorm y softmax. Lee una letra por vez y, mirando las anteriores,
reparte probabilidades entre las que pueden seguir. Como el grafo depende del largo del nombre, hay
una Tape por largo, y todas comparten los mismos parámetros.

Imprime los nombres que inventa antes y después de entrenar y cuánto tarda un paso, con la cinta y
sin ella, y dibuja la pérdida (06_gpt.png). Tarda medio minuto.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import random
import statistics
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import BLUE, GRAY, extras, list_names, read_options, save_picture, subplots

with extras('examples'):
    from faker.providers.person import es_AR, es_CL, es_CO, es_ES, es_MX
    from tqdm import trange

from michigrad.engine import Value
from michigrad.functional import cross_entropy, softmax
from michigrad.optim import Adam
from michigrad.tape import ParameterArray, Tape

LETTERS = '.abcdefghijklmnopqrstuvwxyzáéíñóú'  # el punto marca el principio y el final
MAX_LENGTH = 8
DIM, HEADS, BATCH = 16, 4, 16
Vector = Sequence[Any]


def load_names() -> list[str]:
    """Los nombres de pila en español que trae faker, en minúscula, de 3 a MAX_LENGTH letras."""
    names: set[str] = set()
    for country in (es_AR, es_CL, es_CO, es_ES, es_MX):
        names |= {*country.Provider.first_names_female, *country.Provider.first_names_male}
    clean = {unicodedata.normalize('NFC', name.lower()) for name in names}
    return sorted(n for n in clean if 3 <= len(n) <= MAX_LENGTH and set(n) <= set(LETTERS))


def bigram_loss(names: list[str]) -> float:
    """La vara: la pérdida por letra de contar qué letra sigue a cada una."""
    pairs = [pair for name in names for pair in itertools.pairwise(f'.{name}.')]
    both, first = Counter(pairs), Counter(letter for letter, _ in pairs)
    return statistics.mean(-math.log(both[pair] / first[pair[0]]) for pair in pairs)


# El modelo: matrices de Values y las cuentas de un GPT


def matrix(rows: int, columns: int, rng: random.Random) -> list[list[Value]]:
    """Una matriz de parámetros al azar, chicos: normal de desvío 1/√columns."""
    std = 1 / math.sqrt(columns)
    return [[Value(rng.gauss(0, std)) for _ in range(columns)] for _ in range(rows)]


def build_model(rng: random.Random) -> dict[str, list[list[Value]]]:
    shapes = {
        'letter': (DIM, len(LETTERS)),  # una columna por letra
        'position': (MAX_LENGTH + 1, DIM),  # una fila por posición
        **dict.fromkeys(('query', 'key', 'value', 'join'), (DIM, DIM)),
        'expand': (2 * DIM, DIM),
        'contract': (DIM, 2 * DIM),
        'output': (len(LETTERS), DIM),
    }
    return {name: matrix(rows, columns, rng) for name, (rows, columns) in shapes.items()}


def add(a: Vector, b: Vector) -> list[Value]:
    return [x + y for x, y in zip(a, b, strict=True)]


def dot(a: Vector, b: Vector) -> Value:
    products: list[Value] = [x * y for x, y in zip(a, b, strict=True)]
    return functools.reduce(operator.add, products)


def linear(m: Sequence[Vector], x: Vector) -> list[Value]:
    """Matriz por vector."""
    return [dot(row, x) for row in m]


def rmsnorm(x: Vector) -> list[Value]:
    """Divide el vector por su tamaño típico, la raíz del promedio de los cuadrados."""
    scale = (dot(x, x) / len(x) + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def attend(query: Vector, keys: list[Vector], values: list[Vector]) -> list[Value]:
    """Una cabeza: promedia los `values`, cada uno según cuánto se parece su key a la query."""
    weights = softmax([dot(query, key) / math.sqrt(len(query)) for key in keys])
    return [dot(weights, column) for column in zip(*values, strict=True)]


def gpt(model: dict[str, Any], letter: Vector, keys: list[Vector], values: list[Vector]) -> Vector:
    """Los logits de la letra que sigue. `letter` es one-hot: un 1 en la letra y 0 en las demás.

    `keys` y `values` traen los de las letras anteriores; acá se agregan los de esta. Que la
    atención solo vea lo que ya está en esas listas es lo que la hace causal.
    """
    x = rmsnorm(add(linear(model['letter'], letter), model['position'][len(keys)]))

    normed = rmsnorm(x)
    query = linear(model['query'], normed)
    keys.append(linear(model['key'], normed))
    values.append(linear(model['value'], normed))
    attended: list[Value] = []
    for start in range(0, DIM, DIM // HEADS):
        head = slice(start, start + DIM // HEADS)
        attended += attend(query[head], [k[head] for k in keys], [v[head] for v in values])
    x = add(x, linear(model['join'], attended))

    hidden = [h.relu() for h in linear(model['expand'], rmsnorm(x))]
    x = add(x, linear(model['contract'], hidden))
    return linear(model['output'], rmsnorm(x))


def one_hot(letter: str) -> list[float]:
    return [float(letter == other) for other in LETTERS]


def name_loss(model: dict[str, Any], letters: Sequence[Vector]) -> Value:
    """Qué tan mal adivina cada letra del nombre, y su final, por las anteriores."""
    end = one_hot('.')
    keys: list[Vector] = []
    values: list[Vector] = []
    pairs = zip([end, *letters], [*letters, end], strict=True)
    losses: list[Value] = [
        cross_entropy(gpt(model, now, keys, values), following) for now, following in pairs
    ]
    return functools.reduce(operator.add, losses) / len(losses)


# Entrenar e inventar


class Trainer:
    """Entrena con lotes de nombres del mismo largo: una cinta por largo y los mismos parámetros."""

    def __init__(self, model: dict[str, Any], names: list[str], rng: random.Random) -> None:
        self.names, self.rng = names, rng
        self.weights = ParameterArray(p for m in model.values() for row in m for p in row)
        self.optimizer = Adam([self.weights])
        self.tapes: dict[int, Tape] = {}
        for length in {len(name) for name in names}:
            letters = [[Value(x) for x in one_hot('a')] for _ in range(length)]
            inputs = [x for letter in letters for x in letter]
            self.tapes[length] = Tape(name_loss(model, letters), inputs, self.weights)

    def step(self, lr: float) -> float:
        """Un paso de Adam con un lote de nombres; devuelve la pérdida promedio."""
        length = len(self.rng.choice(self.names))  # así los largos comunes salen más
        same = [name for name in self.names if len(name) == length]
        self.optimizer.lr = lr
        self.optimizer.zero_grad()
        batch = self.rng.choices(same, k=BATCH)
        rows = [[x for letter in name for x in one_hot(letter)] for name in batch]
        losses = self.tapes[length].forward(rows)
        self.tapes[length].backward()
        self.optimizer.step()
        return float(losses.mean())


def invent(model: dict[str, Any], rng: random.Random) -> str:
    """Sortea letra por letra hasta que sale el punto o se llega al largo máximo."""
    name, letter = '', '.'
    keys: list[Vector] = []
    values: list[Vector] = []
    while len(name) < MAX_LENGTH:
        probabilities = softmax(gpt(model, one_hot(letter), keys, values))
        letter = rng.choices(LETTERS, [p.data for p in probabilities])[0]
        if letter == '.':
            break
        name += letter
    return name or invent(model, rng)  # si lo primero fue el punto, no hay nombre: otra vez


def draw(path: Path, losses: list[float], bigrams: float, columns: dict[str, list[str]]) -> None:
    fig, (ax, text) = subplots(1, 2, height=6, width_ratios=(3, 2))
    smooth = [statistics.mean(losses[max(0, i - 99) : i + 1]) for i in range(len(losses))]
    ax.plot(smooth, color=BLUE, linewidth=2.5, label='el GPT (promedio de 100 pasos)')
    ax.axhline(bigrams, color=GRAY, linestyle='--', label='contar bigramas')
    ax.set(xlabel='paso', ylabel='pérdida por letra', title='Un GPT de Values aprende nombres')
    ax.legend()
    list_names(text, columns)
    save_picture(fig, path)


def main() -> None:
    options = read_options(__doc__, '--rapido', '--salida')
    steps = 100 if options.rapido else 6000

    names = load_names()
    rng = random.Random(42)
    model = build_model(rng)
    before = [invent(model, rng) for _ in range(8)]

    trainer = Trainer(model, names, rng)
    losses: list[float] = []
    start = time.perf_counter()
    bar = trange(steps, desc='entrenando', unit='paso', mininterval=1)
    for i in bar:
        losses.append(trainer.step(lr=0.01 * (1 - i / steps)))
        bar.set_postfix_str(f'pérdida {statistics.mean(losses[-100:]):.3f}', refresh=False)
    seconds = (time.perf_counter() - start) / steps
    trainer.weights.write_back()

    after = [invent(model, rng) for _ in range(8)]
    print('Antes:  ', *before)
    print('Después:', *after)
    print(f'{len(names)} nombres, {len(trainer.weights.data)} parámetros, {steps} pasos')
    print(f'Pérdida por letra: de {losses[0]:.2f} a {statistics.mean(losses[-100:]):.2f}')
    start = time.perf_counter()
    for name in rng.choices(names, k=BATCH):  # sin cinta, el grafo se arma de nuevo cada vez
        name_loss(model, [one_hot(letter) for letter in name]).backward()
    eager = time.perf_counter() - start
    print(f'Un paso: {1000 * eager:.0f} ms sin cinta y {1000 * seconds:.1f} ms con cinta')
    columns = {'antes': before, 'después': after}
    draw(options.salida / '06_gpt.png', losses, bigram_loss(names), columns)


if __name__ == '__main__':
    main()
