// La ficha de un nodo: sus números, y lo que se puede hacer con una hoja.

function showCard(state) {
  $('card').hidden = selected === null;
  shapes.forEach(({box}, i) => box.classList.toggle('selected', i === selected));
  if (selected === null) return;
  const node = nodes[selected];
  const {known, grad, pending, changed} = state[selected];
  const late = 'todavía no se calculó';
  const hides = (kind) => pending && changed === kind;
  const slopes = known && !$('predict').checked ? writeSlopes(graph, model, selected) : [];
  const rows = [
    ['operación', isLeaf(node) ? 'ninguna: es una hoja' : `${graph.rows[node.row].symbol}: ${symbols(graph, selected)}`],
    ['data', hides('data') ? '?' : known ? exact(model.data[selected]) : late],
    ['grad', hides('grad') ? '?' : known ? exact(grad) : late],
    ...(slopes.length ? [['derivadas locales', slopes.join('\n')]] : []),
  ];
  $('card').querySelector('h2').textContent = shapes[selected].name;
  $('card').querySelector('dl').replaceChildren(
    ...rows.flatMap(([name, text]) => [element('dt', name), element('dd', text)]));
  showEditor(node);
}

function showEditor(node) {
  const owner = locked[selected];
  $('editor').hidden = !isLeaf(node) || owner !== null;
  $('locked').hidden = !isLeaf(node) || owner === null;
  if (!isLeaf(node)) return;
  if (owner) {
    $('locked').textContent = `No se puede cambiar: de ella depende ${owner.name}, una operación propia que solo tu programa sabe calcular.`;
    return;
  }
  const x = leaves[selected];
  if (document.activeElement !== $('datum')) $('datum').value = exact(x).replace(MINUS, '-');
  if (document.activeElement !== $('dial')) setDial(given.leaves[selected], x);
  showNudge();
}

// La barra va hasta uno, o el doble del número, para cada lado.
function setDial(center, x) {
  const reach = Math.max(1, 2 * Math.abs(center), Math.abs(x - center));
  Object.assign($('dial'), {min: center - reach, max: center + reach, step: reach / 200, value: x});
}

function editLeaf(x) {
  const problem = Number.isFinite(x)
    ? setLeaves(leaves.map((old, i) => (i === selected ? x : old))) : 'Escribí un número.';
  $('mistake').textContent = problem;
  $('mistake').hidden = !problem;
  if (problem) {
    $('mistake').scrollIntoView({block: 'nearest'});
    return;
  }
  losses = [];
  render();
}

// La derivada, sentida: cuánto cambia el resultado si la hoja cambia un poco.
function showNudge() {
  const delta = parseNumber($('delta').value);
  const root = nodes.at(-1).name;
  const slope = model.own[selected];
  try {
    const pushed = forward(nodes, leaves.map((x, i) => (i === selected ? x + delta : x))).data.at(-1);
    $('felt').textContent = Number.isFinite(delta)
      ? `Δ${root} = ${significant(pushed - lossNow())}\n∂${root}/∂${nodes[selected].name} · ${within(numberTerm(delta), 1)} = ${significant(slope * delta)}`
      : 'Escribí un número.';
  } catch (error) {
    if (!(error instanceof NoResult)) throw error;
    $('felt').textContent = 'Con ese empujón no hay resultado.';
  }
}

function select(i) {
  selected = i;
  $('mistake').hidden = true;
  showCard(currentState());
  if (i === null) return;
  reach(surround([shapes[i].bounds]));
  $('card').scrollIntoView({block: 'nearest'});
}

// El primer paso que calcula el nodo elegido, o el último que le da gradiente.
function jump(kind) {
  const gives = (candidate) => candidate.lines.some((line) => line.to === selected && line.kind === kind);
  const target = kind === 'data' ? steps.findIndex(gives) : steps.findLastIndex(gives);
  if (target >= 0) go(target);
}
