"""El ejercicio del curso: editar engine.py mientras un notebook lo usa con `%autoreload 2`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import michigrad

# Un IPython de verdad corre cada celda; entre dos celdas, alguien edita el motor.
NOTEBOOK = '''
import os, sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()


def cell(code):
    result = shell.run_cell(code)
    assert result.success, result.error_before_exec or result.error_in_exec


def edit(old, new):
    path = Path('michigrad/engine.py')
    text = path.read_text(encoding='utf-8')
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding='utf-8')
    later = path.stat().st_mtime + edit.count  # aunque el reloj del disco sea grueso
    edit.count += 10
    os.utime(path, (later, later))


edit.count = 10
cell('%load_ext autoreload')
cell('%autoreload 2')
cell("""
import copy
from michigrad.engine import Value
from michigrad import nn, optim
from michigrad.functional import mse_loss
from michigrad.gradcheck import gradcheck
from michigrad.stepper import show_backprop
from michigrad.tape import ParameterArray, Tape
from michigrad.visualize import show_graph, trace
old = Value(2.0, name='old')
product = old * 3
neuron = nn.Neuron(2)
""")
METHOD = '    def doble(self):\\n        return self * 2\\n\\n    def backward(self)'
edit('    def backward(self)', METHOD)
USE = """
old.data = 2.0
new = Value(5.0, name='new')
assert type(new).doble(new).data == 10.0
assert old.doble().data == 4.0 and product.doble().data == 12.0
for a, b in ((old, new), (new, old), (product, new), (new, product)):
    assert (a + b).data == (b + a).data == a.data + b.data
    assert (a < b) == (a.data < b.data)
old.grad = 0
loss = (product * new).doble()
loss.backward()
assert (old.grad, new.grad) == (30.0, 12.0), (old.grad, new.grad)
assert len(trace(loss)[0]) == 7
show_graph(loss).pipe('svg')
show_backprop(loss)
out = neuron([old, new])
mse_loss(out, 1.0).backward()
optim.SGD([old, new, *neuron.parameters()], lr=0.1).step()
assert gradcheck(lambda v: v.doble() * new, old)
assert copy.deepcopy(new).data == new.data
weights = ParameterArray([old])
assert Tape(old * new, [new], weights).forward([[2.0]])[0] == old.data * 2
"""
cell(USE)
edit('return self * 2', 'return 2 * self')
cell(USE)
'''


def test_editing_the_engine_from_a_notebook(tmp_path: Path) -> None:
    shutil.copytree(Path(michigrad.__file__).parent, tmp_path / 'michigrad')
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path), 'IPYTHONDIR': str(tmp_path)}
    script = tmp_path / 'notebook.py'
    script.write_text(NOTEBOOK, encoding='utf-8')
    answer = subprocess.run(
        [sys.executable, '-W', 'ignore', str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding='utf-8',
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
