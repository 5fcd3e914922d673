// Fronts: a point is chosen by its preference, and numbers, map, coefficients and command follow.

const chosenAt = page.fronts.map(() => 0);
const part = (f, name) => at(`front-${f}-${name}`);

// The judged positions beside position p: p itself twice, if it is judged.
function around(front, p) {
  const judged = front.judged.map((soup, i) => (soup === null ? -1 : i)).filter((i) => i >= 0);
  return [judged.filter((i) => i <= p).pop(), judged.find((i) => i >= p)];
}

// Accuracies at position p by metric: measured, or on the straight line between its neighbours.
function estimates(front, p) {
  const [before, after] = around(front, p);
  if (before === undefined || after === undefined) return {};
  const [a, b] = [soups[front.judged[before]], soups[front.judged[after]]];
  const share = (i) => front.at[i][1];
  const part = before === after ? 0 : (share(p) - share(before)) / (share(after) - share(before));
  const common = Object.keys(a.metrics).filter((m) => b.metrics[m]);
  return Object.fromEntries(common.map((m) => [m, value(a, m) + part * (value(b, m) - value(a, m))]));
}

function frontNumbers(front, p) {
  const [before, after] = around(front, p);
  if (before === undefined || after === undefined) return [element("p", "No point of this front was judged.")];
  if (before === after) {
    const soup = soups[front.judged[p]];
    const caption = "Judged accuracy (under attack, an upper bound)";
    return [accuracies(soup, caption), element("p", judges[soup.judge], { class: "quiet" })];
  }
  const found = estimates(front, p);
  const ends = [before, after].map((i) => soups[front.judged[i]]);
  const lines = Object.keys(found).map((m) => [
    metrics[m].name,
    `≈ ${percent(found[m])}`,
    ...ends.map((soup) => percent(value(soup, m))),
  ]);
  const header = ["metric", "interpolated", ...[before, after].map((i) => `at ${front.names[i]}`)];
  const caption = "Not judged: a straight line between two judged points, not a measurement";
  return [rows(caption, header, lines)];
}

const frontCommand = (front, p) => `${front.command} --at ${front.options[p]} -o soup.safetensors`;

function showDetail(f) {
  const [front, p] = [page.fronts[f], chosenAt[f]];
  const line = frontCommand(front, p);
  const command = element("pre", line, { id: `front-${f}-command`, dir: "ltr" });
  const bar = element("div", "", { class: "bar" });
  const copy = element("button", "copy the command", { type: "button" });
  copy.addEventListener("click", () => copyLine(line, command));
  bar.append(copy);
  const heading = element("h3", front.names[p]);
  const write = element("h3", "Command that writes this soup");
  part(f, "detail").replaceChildren(heading, ...frontNumbers(front, p), write, command, bar);
}

// ---- The map: a curve of two objectives, the simplex of three, dots of more.

function withIntervals(trace, [x, y], shade) {
  const bars = (m) => {
    const reach = (end) => trace.customdata.map((i) => Math.abs(soups[i].metrics[m][end] - value(soups[i], m)));
    return { type: "data", symmetric: false, array: reach(2), arrayminus: reach(1), color: shade, thickness: 1, width: 0 };
  };
  return { ...trace, error_x: bars(x), error_y: bars(y) };
}

function frontTraces(front) {
  const [x, y] = front.axes;
  const shown = (indices) => indices.filter((i) => soups[i].metrics[x] && soups[i].metrics[y]);
  const colour = shade(`@metric:${metrics[y].key}`);
  const kinds = [...new Set(front.beside.map((i) => soups[i].kind))].filter((kind) => kind !== INGREDIENT);
  const traces = kinds.map((kind, k) => {
    const mine = shown(front.beside.filter((i) => soups[i].kind === kind));
    const marker = { color: css("--quiet"), symbol: SYMBOLS[k + 1], size: 9 };
    return withIntervals(dots(mine, { name: plain(kind), marker }, [x, y]), [x, y], css("--rule"));
  });
  const alone = shown(front.beside.filter((i) => soups[i].kind === INGREDIENT));
  if (alone.length) traces.push(withIntervals(ingredientDots(alone, [x, y]), [x, y], css("--rule")));
  const points = shown(front.judged.filter((soup) => soup !== null));
  const joined = front.objectives.length === 2 ? "lines+markers" : "markers";
  const look = { name: "front", mode: joined, line: { color: colour, width: 2 }, marker: { color: colour, size: 8 } };
  const curve = dots(points, look, [x, y]);
  if (front.objectives.length === 2) nameEnds(curve);
  return [...traces, withIntervals(curve, [x, y], colour)];
}

function nameEnds(curve) {
  const last = curve.customdata.length - 1;
  curve.mode += "+text";
  curve.hovertext = curve.text;
  curve.text = curve.customdata.map((i, p) => (p === 0 || p === last ? plain(soups[i].name) : ""));
  curve.textposition = "top right";
}

// A ring around the chosen point, dotted where it is interpolated.
function frontRing(front, p) {
  const [x, y] = front.axes;
  const found = estimates(front, p);
  if (found[x] === undefined || found[y] === undefined) return [];
  const [ring] = ringAt(found[x], found[y]);
  return [{ ...ring, line: { ...ring.line, dash: front.judged[p] === null ? "dot" : "solid" } }];
}

function drawFrontMap(f) {
  const front = page.fronts[f];
  const clicked = (soup) => front.judged.includes(soup) && moveTo(f, front.judged.indexOf(soup));
  if (!front.axes.length) return;
  if (front.objectives.length === 3) {
    const mine = front.judged.map((soup, p) => ({ soup, row: front.at[p], chosen: p === chosenAt[f] }));
    const metric = Number(part(f, "metric").value);
    drawSimplex(part(f, "map"), front.objectives, mine, metric, clicked);
    return;
  }
  const axis = (m) => ({ title: { text: `accuracy, ${plain(metrics[m].name)}` }, tickformat: ".3~%", zeroline: false });
  const [x, y] = front.axes.map(axis);
  const extra = { xaxis: x, yaxis: y, shapes: frontRing(front, chosenAt[f]), showlegend: true };
  draw(part(f, "map"), frontTraces(front), extra, clicked);
}

function showOnMap(f) {
  const front = page.fronts[f];
  if (!front.axes.length) return;
  if (front.objectives.length === 3) drawFrontMap(f);
  else Plotly.relayout(part(f, "map"), { shapes: frontRing(front, chosenAt[f]) });
}

// ---- Coefficients by depth.

const coefficientsAt = (f) => page.fronts[f].coefficients[chosenAt[f]];

function drawHeat(f) {
  const front = page.fronts[f];
  const names = runs[front.run].ingredients.map((name) => plain(shortened(name, 24)));
  const z = coefficientsAt(f).map((row) => row.map((w) => w / front.scale));
  const text = z.map((row, g) => row.map((w, k) => `${plain(front.groups[g])}<br>${names[k]}: ${w.toFixed(3)}`));
  const trace = {
    type: "heatmap",
    x: names.map((_, k) => String(k)),
    z,
    text,
    hoverinfo: "text",
    colorscale: "Cividis",
    zmin: front.least / front.scale,
    zmax: front.most / front.scale,
    colorbar: { title: { text: "coefficient" }, thickness: 12 },
  };
  const named = front.groups.map((_, g) => g).filter((g) => g % front.every === 0);
  const yaxis = {
    autorange: "reversed",
    tickvals: named,
    ticktext: named.map((g) => plain(shortened(front.groups[g], 34))),
    tickfont: { size: 10 },
    zeroline: false,
  };
  const xaxis = { type: "category", side: "top", tickvals: trace.x, ticktext: names };
  draw(part(f, "heat"), [trace], { xaxis, yaxis });
}

function fillNumbers(f) {
  const front = page.fronts[f];
  const frame = part(f, "numbers");
  if (!frame.open) return;
  const lines = coefficientsAt(f).map((row, g) => [front.groups[g], ...row.map((w) => (w / front.scale).toFixed(3))]);
  const caption = `Coefficients, ${front.names[chosenAt[f]]}`;
  frame.querySelector(".wide").replaceChildren(rows(caption, ["group", ...runs[front.run].ingredients], lines));
}

// ---- Choosing.

function moveTo(f, p) {
  chosenAt[f] = p;
  const front = page.fronts[f];
  const control = part(f, "at");
  control.value = String(p);
  const sign = front.judged[p] === null ? "about " : "";
  const told = Object.entries(estimates(front, p)).map(([m, accuracy]) => `${metrics[m].name} ${sign}${percent(accuracy)}`);
  const text = [front.names[p], ...told].join(", ");
  if (control.type === "range") {
    control.setAttribute("aria-valuetext", text);
    part(f, "value").textContent = front.names[p];
    const [before, after] = [around(front, p - 1)[0], around(front, p + 1)[1]];
    part(f, "back").disabled = before === undefined;
    part(f, "on").disabled = after === undefined;
  } else {
    say(`${text}.`);
  }
  part(f, "here").textContent = front.names[p];
  showDetail(f);
  showOnMap(f);
  drawHeat(f);
  fillNumbers(f);
}

function drawFront(f) {
  drawFrontMap(f);
  drawHeat(f);
}

function startFront(f) {
  const front = page.fronts[f];
  part(f, "at").addEventListener("input", (event) => moveTo(f, Number(event.target.value)));
  part(f, "numbers").addEventListener("toggle", () => fillNumbers(f));
  part(f, "back")?.addEventListener("click", () => moveTo(f, around(front, chosenAt[f] - 1)[0]));
  part(f, "on")?.addEventListener("click", () => moveTo(f, around(front, chosenAt[f] + 1)[1]));
  const shadedBy = part(f, "metric");
  if (shadedBy) {
    const judged = soups[front.judged[0]].metrics;
    Object.keys(judged).forEach((m) => shadedBy.append(element("option", metrics[m].name, { value: m })));
    shadedBy.value = String(front.axes[1]);
    shadedBy.addEventListener("change", () => drawFrontMap(f));
  }
  chosenAt[f] = part(f, "at").type === "range" ? Number(part(f, "at").value) : 0;
  drawFrontMap(f);
  moveTo(f, chosenAt[f]);
}

function startFronts() {
  page.fronts.forEach((_, f) => startFront(f));
  night.addEventListener("change", () => page.fronts.forEach((_, f) => drawFront(f)));
}
