"""El gemelo en PyTorch de 06_gpt.py: otra biblioteca, la misma arquitectura y los mismos números.

    python -m pip install -e ".[examples]"
    python examples/pytorch/06_gpt_pytorch.py

Ponelo al lado de examples/06_gpt.py. Donde Michigrad escribe el GPT de una letra, número por
número, PyTorch opera con un tensor de todas las letras de todos los nombres del lote: las que están
más adelante se tapan en la atención. Empieza con los mismos pesos y sortea los mismos lotes, así
que imprime las mismas pérdidas y los mismos nombres.

Además de ese extra usa PyTorch, que se instala como dice pytorch.org. Tarda alrededor de un minuto.
"""

import math
import random
import statistics
import sys
import unicodedata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # ahí está common.py
from common import extras, read_options

with extras('examples'):
    import torch
    from faker.providers.person import es_AR, es_CL, es_CO, es_ES, es_MX
    from torch import Tensor
    from torch.nn.functional import cross_entropy, embedding, linear, scaled_dot_product_attention
    from torch.optim import Adam
    from tqdm import trange

torch.set_default_dtype(torch.float64)  # los float de Python tienen 64 bits; los de PyTorch, 32

LETTERS = '.abcdefghijklmnopqrstuvwxyzáéíñóú'  # el punto marca el principio y el final
MAX_LENGTH = 8
DIM, HEADS, BATCH = 16, 4, 16
Model = dict[str, Tensor]


def load_names() -> list[str]:
    """Los nombres de pila en español que trae faker, en minúscula, de 3 a MAX_LENGTH letras."""
    names: set[str] = set()
    for country in (es_AR, es_CL, es_CO, es_ES, es_MX):
        names |= {*country.Provider.first_names_female, *country.Provider.first_names_male}
    clean = {unicodedata.normalize('NFC', name.lower()) for name in names}
    return sorted(n for n in clean if 3 <= len(n) <= MAX_LENGTH and set(n) <= set(LETTERS))


def matrix(rows: int, columns: int, rng: random.Random) -> Tensor:
    """Una matriz de parámetros al azar, chicos: normal de desvío 1/√columns."""
    std = 1 / math.sqrt(columns)
    numbers = [[rng.gauss(0, std) for _ in range(columns)] for _ in range(rows)]
    return torch.tensor(numbers, requires_grad=True)


def build_model(rng: random.Random) -> Model:
    shapes = {
        'letter': (DIM, len(LETTERS)),  # una columna por letra
        'position': (MAX_LENGTH + 1, DIM),  # una fila por posición
        **dict.fromkeys(('query', 'key', 'value', 'join'), (DIM, DIM)),
        'expand': (2 * DIM, DIM),
        'contract': (DIM, 2 * DIM),
        'output': (len(LETTERS), DIM),
    }
    return {name: matrix(rows, columns, rng) for name, (rows, columns) in shapes.items()}


def rmsnorm(x: Tensor) -> Tensor:
    """Divide cada vector por su tamaño típico, la raíz del promedio de los cuadrados."""
    return x * (x.square().mean(-1, keepdim=True) + 1e-5) ** -0.5


def gpt(model: Model, letters: Tensor) -> Tensor:
    """Los logits de la letra que sigue a cada una. `letters` es (nombres, letras)."""
    names, length = letters.shape
    x = rmsnorm(embedding(letters, model['letter'].T) + model['position'][:length])

    normed = rmsnorm(x)
    query, key, value = (
        linear(normed, model[name]).view(names, length, HEADS, -1).transpose(1, 2)
        for name in ('query', 'key', 'value')
    )
    attended = scaled_dot_product_attention(query, key, value, is_causal=True)
    x = x + linear(attended.transpose(1, 2).flatten(2), model['join'])

    hidden = linear(rmsnorm(x), model['expand']).relu()
    x = x + linear(hidden, model['contract'])
    return linear(rmsnorm(x), model['output'])


def indices(text: str) -> list[int]:
    return [LETTERS.index(letter) for letter in text]


def names_loss(model: Model, names: list[str]) -> Tensor:
    """Qué tan mal adivina cada letra de los nombres, y su final, por las anteriores."""
    letters = torch.tensor([indices(f'.{name}.') for name in names])
    logits = gpt(model, letters[:, :-1])
    return cross_entropy(logits.flatten(0, 1), letters[:, 1:].flatten())


# Entrenar e inventar


class Trainer:
    """Entrena con lotes de nombres del mismo largo."""

    def __init__(self, model: Model, names: list[str], rng: random.Random) -> None:
        self.model, self.names, self.rng = model, names, rng
        self.optimizer = Adam(model.values())

    def step(self, lr: float) -> float:
        """Un paso de Adam con un lote de nombres; devuelve la pérdida promedio."""
        length = len(self.rng.choice(self.names))  # así los largos comunes salen más
        same = [name for name in self.names if len(name) == length]
        self.optimizer.param_groups[0]['lr'] = lr
        self.optimizer.zero_grad()
        loss = names_loss(self.model, self.rng.choices(same, k=BATCH))
        loss.backward()
        self.optimizer.step()
        return float(loss.item())


def invent(model: Model, rng: random.Random) -> str:
    """Sortea letra por letra hasta que sale el punto o se llega al largo máximo."""
    name = ''
    while len(name) < MAX_LENGTH:
        with torch.no_grad():  # acá no hay nada que derivar
            probabilities = gpt(model, torch.tensor([indices('.' + name)]))[0, -1].softmax(0)
        letter = rng.choices(LETTERS, probabilities.tolist())[0]
        if letter == '.':
            break
        name += letter
    return name or invent(model, rng)  # si lo primero fue el punto, no hay nombre: otra vez


def main() -> None:
    options = read_options(__doc__, '--rapido')
    steps = 100 if options.rapido else 6000

    names = load_names()
    rng = random.Random(42)
    model = build_model(rng)
    before = [invent(model, rng) for _ in range(8)]

    trainer = Trainer(model, names, rng)
    losses: list[float] = []
    bar = trange(steps, desc='entrenando', unit='paso', mininterval=1)
    for i in bar:
        losses.append(trainer.step(lr=0.01 * (1 - i / steps)))
        bar.set_postfix_str(f'pérdida {statistics.mean(losses[-100:]):.3f}', refresh=False)

    after = [invent(model, rng) for _ in range(8)]
    parameters = sum(p.numel() for p in model.values())
    print('Antes:  ', *before)
    print('Después:', *after)
    print(f'{len(names)} nombres, {parameters} parámetros, {steps} pasos')
    print(f'Pérdida por letra: de {losses[0]:.2f} a {statistics.mean(losses[-100:]):.2f}')


if __name__ == '__main__':
    main()
