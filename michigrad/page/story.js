// El relato: los pasos del forward pass y del backward pass, y las cuentas de cada uno, escritas.

// Estas derivadas locales no dicen más que su número.
const OBVIOUS = ['', '0', '1', '(−1)'];

// Los pasos: primero todas las hojas, después cada operación, después el resultado y cada operación
// al revés, y al final lo que queda. `lines` dice qué muestra de qué nodo cada cuenta; los números
// y las letras se escriben recién cuando el paso se ve.
function tellStory(graph, model) {
  const {nodes} = graph;
  const root = nodes.length - 1;
  const forwardLine = (i) => ({to: i, kind: 'data', value: model.data[i], write: () => writeValue(graph, model, i)});
  const gradLine = (flow) => ({
    to: flow.to, kind: 'grad', value: flow.gain, after: flow.after, flow, write: () => writeFlow(graph, flow),
  });
  const leaves = [];
  const operations = [];
  nodes.forEach((node, i) => (isLeaf(node) ? leaves : operations).push(i));
  const senders = [...nodes.keys()].reverse().filter((i) => operations.includes(i) || nodes[i].measured);
  const seed = {
    to: root, kind: 'grad', value: 1, after: model.seed,
    write: () => ({text: `${derivative(graph, root, root)} += `, answer: '1', note: seedNote(model)}),
  };
  return [
    {phase: 'forward', node: -1, given: true, caption: LEAVES, lines: leaves.map(forwardLine)},
    ...operations.map((i) => ({
      phase: 'forward', node: i, lines: [forwardLine(i)],
      caption: `La operación ${graph.rows[nodes[i].row].symbol} calcula ${
        nodes[i].name === symbols(graph, i) ? 'un valor' : nodes[i].name}`,
    })),
    {phase: 'backward', node: root, caption: 'El resultado empieza con gradiente 1', lines: [seed]},
    ...senders.map((i) => ({
      phase: 'backward', node: i, lines: model.flows[i].map(gradLine),
      caption: `${nodes[i].name} reparte su gradiente, ${significant(model.flows[i][0]?.grad ?? 0)}`,
    })),
    {phase: 'backward', node: -1, given: true, last: true, caption: DONE, lines: []},
  ];
}

const LEAVES = 'Las hojas: sus datos están dados';
const DONE = 'Listo: así deja los gradientes backward()';

function seedNote({seed}) {
  return seed === 1 ? '' : `acumula ${writeSum([seed - 1, 1], seed)}`;
}

function term({nodes}, i) {
  return {text: nodes[i].name, rank: nodes[i].rank};
}

function derivative(graph, of, wrt) {
  return `∂${within(term(graph, of), 4)}/∂${within(term(graph, wrt), 4)}`;
}

// La operación de un nodo, con los nombres de sus operandos.
function symbols(graph, i) {
  const {row, operands} = graph.nodes[i];
  return fill(graph.rows[row].text, operands.map((j) => term(graph, j)));
}

// ŷ = x₀·W₀ + b = 0.1873 + 0.7320 = 0.9193
function writeValue(graph, {data, stale}, i) {
  const node = graph.nodes[i];
  const answer = significant(data[i]);
  if (isLeaf(node)) return {text: `${node.name} = `, answer, note: ''};
  const numbers = node.operands.map((j) => data[j]);
  const digits = node.rule ? digitsThatHold(numbers, (...xs) => apply(node, i, xs).out, data[i]) : DIGITS;
  const written = symbols(graph, i);
  const sides = written === node.name ? [written] : [node.name, written];
  const note = stale[i] ? 'este dato se calculó antes de que cambiara alguno de sus operandos' : '';
  return {text: `${[...sides, fillNumbers(graph.rows[node.row], numbers, digits)].join(' = ')} = `, answer, note};
}

// La derivada local de un operando, escrita; '' si no se sabe o si no dice más que su número.
function slopeSymbol(graph, {from, slot}) {
  const {row, operands} = graph.nodes[from];
  const template = graph.rows[row].slopes[slot] ?? '';
  return OBVIOUS.includes(template) ? '' : fill(template, operands.map((j) => term(graph, j)));
}

// ∂L/∂x += ∂L/∂u · ∂u/∂x = ∂L/∂u · W₀ = −0.2600 · 0.3745 = −0.0974
function writeFlow(graph, flow) {
  const {from, to, slope, gain, grad} = flow;
  const outer = derivative(graph, graph.nodes.length - 1, from);
  const symbol = slopeSymbol(graph, flow);
  const factor = slope ?? 0;
  const digits = digitsThatHold([grad, factor], (x, y) => x * y, gain);
  const sides = [
    `${outer} · ${derivative(graph, from, to)}`,
    ...(symbol ? [`${outer} · ${symbol}`] : []),
    `${significant(grad, digits)} · ${within(numberTerm(factor, digits), 1)}`,
  ];
  const text = `${derivative(graph, graph.nodes.length - 1, to)} += ${sides.join(' = ')} = `;
  return {text, answer: significant(gain), note: flowNote(graph, flow)};
}

// Las derivadas locales de un nodo: ∂u/∂x = W₀ = 0.3745
function writeSlopes(graph, {flows}, i) {
  const lines = flows[i].map((flow) => {
    const symbol = slopeSymbol(graph, flow);
    const sides = [derivative(graph, i, flow.to), ...(symbol ? [symbol] : []), significant(flow.slope ?? 0)];
    return sides.join(' = ');
  });
  return [...new Set(lines)];
}

function flowNote(graph, {from, to, slope, before, after, gain, overwrites, received, last}) {
  const node = graph.nodes[from];
  if (node.measured && node.measured.gains.every((part) => part.slope === 0)) {
    return 'no le suma nada: ¿falta out._backward = _backward?';
  }
  if (overwrites && before) return `pisó el ${significant(before)} que había: ¿dice = en vez de +=?`;
  if (slope === null) return 'por acá no pasa gradiente';
  if (received.length < 2) return '';
  if (!last) return `acumula ${writeSum([before, gain], after)}`;
  return `la suma: ${derivative(graph, graph.nodes.length - 1, to)} = ${writeSum(received, after)}`;
}

// W₀ ← 0.3745 − 0.1 · (−0.1300) = 0.3875
function writeUpdate(x, eta, grad) {
  const after = x - eta * grad;
  const digits = digitsThatHold([x, eta, grad], (a, b, c) => a - b * c, after);
  const [from, rate, slope] = [x, eta, grad].map((n) => numberTerm(n, digits));
  return `${from.text} − ${rate.text} · ${within(slope, 1)} = ${significant(after)}`;
}
