// El último paso: la tabla de las hojas y el descenso por el gradiente.

function showTraining() {
  const {last} = steps[step];
  $('training').hidden = !last;
  document.body.classList.toggle('last', Boolean(last));
  if (!last) return;
  const eta = parseNumber($('eta').value);
  const root = nodes.at(-1).name;
  $('rootName').textContent = root;
  const rows = nodes.flatMap((node, i) => (isLeaf(node) ? [writeRow(node, i, eta)] : []));
  $('leaves').replaceChildren(...rows);
  const movable = nodes.some((node) => node.trainable) && Number.isFinite(eta);
  $('descend').setAttribute('aria-disabled', !movable);
  $('loss').textContent = tellLoss(root);
  drawCurve();
}

function tellLoss(root) {
  const count = losses.length - 1;
  if (count < 1) return `${root} = ${significant(lossNow())}`;
  const change = `${significant(losses[0])} → ${significant(losses.at(-1))}`;
  return `${root}: ${change} en ${count} ${count === 1 ? 'paso' : 'pasos'}`;
}

function writeRow({name, trainable}, i, eta) {
  const row = element('tr', '');
  const update = trainable && Number.isFinite(eta) ? writeUpdate(leaves[i], eta, model.grads[i]) : 'no se ajusta';
  row.append(
    element('th', name, {scope: 'row'}), element('td', significant(model.grads[i])), element('td', update));
  return row;
}

function descendOnce() {
  const eta = parseNumber($('eta').value);
  if ($('descend').getAttribute('aria-disabled') === 'true') return;
  const before = {start, losses: losses.length ? losses : [lossNow()]};
  if (start !== zeros) start = model.grads.map((grad, i) => (isLeaf(nodes[i]) ? grad : 0));
  const problem = setLeaves(descend(nodes, leaves, model.grads, eta));
  if (problem) ({start} = before);
  losses = problem ? before.losses : [...before.losses, lossNow()];
  render();
  if (problem) $('loss').textContent = 'Con ese paso no hay resultado: probá con un η más chico.';
}

// La curva de las pérdidas. Un lector de pantalla las lee.
function drawCurve() {
  const curve = $('curve');
  curve.toggleAttribute('hidden', losses.length < 2);
  if (losses.length < 2) return;
  const finite = losses.filter(Number.isFinite);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const x = (i) => 6 + 228 * i / (losses.length - 1);
  const y = (loss) => 64 - 50 * (loss - low) / ((high - low) || 1);
  const points = losses.map((loss, i) => [x(i), y(loss)]).filter(([, height]) => Number.isFinite(height));
  curve.querySelector('polyline').setAttribute('points', points.map((point) => point.join()).join(' '));
  curve.setAttribute('aria-label', `${nodes.at(-1).name} en cada paso: ${losses.map((loss) => significant(loss)).join(', ')}`);
}

function restore() {
  start = $('accumulate').checked ? given.grads : zeros;
  losses = [];
  setLeaves(given.leaves);
  render();
}
