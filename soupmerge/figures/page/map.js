// The map of all soups with their fronts, and the simplex.

function frontOf(run) {
  const mine = soups.map((_, i) => i).filter((i) => soups[i].run === run && known(soups[i]));
  const at = (i) => [value(soups[i], state.x), value(soups[i], state.y)];
  mine.sort((a, b) => at(b)[0] - at(a)[0] || at(b)[1] - at(a)[1]);
  const front = [];
  for (const i of mine) {
    const last = front.length ? at(front[front.length - 1]) : [Infinity, -Infinity];
    const same = at(i)[0] === last[0] && at(i)[1] === last[1];
    if (at(i)[1] > last[1] || same) front.push(i);
  }
  return front.reverse();
}

function hover(i) {
  const soup = soups[i];
  const lines = Object.keys(soup.metrics).map((m) => {
    const [accuracy, low, high] = soup.metrics[m];
    return `${plain(metrics[m].name)}: ${percent(accuracy)} (${percent(low)} to ${percent(high)})`;
  });
  const where = several ? [plain(runs[soup.run].title)] : [];
  const name = soup.name.length > 90 ? `${soup.name.slice(0, 90)}…` : soup.name;
  return [`<b>${plain(name)}</b>`, ...where, ...lines].join("<br>");
}

function dots(indices, more, [x, y] = [state.x, state.y]) {
  return {
    type: "scatter",
    mode: "markers",
    x: indices.map((i) => value(soups[i], x)),
    y: indices.map((i) => value(soups[i], y)),
    customdata: indices,
    text: indices.map(hover),
    hoverinfo: "text",
    ...more,
  };
}

function mapTraces() {
  const colour = shade(`@metric:${metrics[state.y].key}`);
  const shown = soups.map((_, i) => i).filter((i) => known(soups[i]));
  const many = shown.length > 1000;
  const label = (soup) => (several ? runs[soup.run].title : soup.kind);
  const mixed = shown.filter((i) => soups[i].kind !== INGREDIENT);
  const kinds = [...new Set(mixed.map((i) => label(soups[i])))];
  const traces = kinds.map((kind, k) => {
    const mine = mixed.filter((i) => label(soups[i]) === kind);
    const symbol = SYMBOLS[k % SYMBOLS.length];
    const marker = { color: colour, symbol, size: many ? 5 : 9, opacity: many ? 0.5 : 0.8 };
    return dots(mine, { name: plain(kind), marker });
  });
  fronts.forEach((front) => {
    const line = { color: colour, width: 2 };
    traces.push(dots(front, { mode: "lines", line, showlegend: false, hoverinfo: "skip" }));
  });
  const alone = shown.filter((i) => soups[i].kind === INGREDIENT);
  if (alone.length) traces.push(ingredientDots(alone));
  return traces;
}

function ingredientDots(alone, axes = [state.x, state.y]) {
  const marker = { color: css("--ground"), size: 10, line: { color: css("--ink"), width: 2 } };
  const trace = dots(alone, { name: "ingredients", marker }, axes);
  trace.mode = alone.length > 12 ? "markers" : "markers+text";
  trace.hovertext = trace.text;
  trace.text = alone.map((i) => plain(shortened(soups[i].name, 24)));
  trace.textposition = sides(trace.x);
  return trace;
}

// Names in the outer thirds of a map point inwards, so that its edges do not cut them.
function sides(xs) {
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const side = (x) => (x - low < (high - low) / 3 ? "right" : high - x < (high - low) / 3 ? "left" : "center");
  return xs.map((x) => `top ${high > low ? side(x) : "center"}`);
}

// A shape rather than a trace: moving it redraws no dots.
function ring() {
  const soup = soups[state.chosen];
  return known(soup) ? ringAt(value(soup, state.x), value(soup, state.y)) : [];
}

function ringAt(x, y) {
  return [
    {
      type: "circle",
      xsizemode: "pixel",
      ysizemode: "pixel",
      xanchor: x,
      yanchor: y,
      x0: -11,
      x1: 11,
      y0: -11,
      y1: 11,
      line: { color: css("--chosen"), width: 3 },
    },
  ];
}

function drawMap() {
  const lone = soups.filter(known).length === 1 ? [-0.1, 0.1] : null; // plotly would show −50% and more
  const axis = (m) => ({
    ...(lone ? { range: lone.map((off) => off + value(soups.find(known), m)) } : {}),
    title: { text: `accuracy, ${plain(metrics[m].name)}` },
    tickformat: ".3~%",
    zeroline: false,
  });
  const axes = { xaxis: axis(state.x), yaxis: axis(state.y) };
  draw(at("map"), mapTraces(), { ...axes, shapes: ring(), showlegend: true });
}

function drawTernary(run) {
  const frame = at(`ternary-${run}`);
  if (!frame) return;
  const mine = simplex(run).filter((i) => known(soups[i]));
  const points = mine.map((i) => ({ soup: i, row: soups[i].weights, chosen: i === state.chosen }));
  drawSimplex(frame, runs[run].ingredients, points, state.y);
}

// Draws points between three corners, shaded by metric m, with a ring around the chosen one.
function drawSimplex(frame, corners, points, m, clicked = choose) {
  const many = points.length > 1000;
  const narrow = frame.clientWidth < 500; // the bar of colours would take the names' room
  const bar = narrow ? { orientation: "h", y: -0.95, thickness: 10, nticks: 4 } : { thickness: 12 };
  const barTitle = { text: plain(metrics[m].name), side: narrow ? "top" : "right" };
  const column = (from, k) => from.map(({ row }) => row[k]);
  const place = (from) => ({ a: column(from, 0), b: column(from, 1), c: column(from, 2) });
  const trace = {
    type: "scatterternary",
    mode: "markers",
    ...place(points),
    customdata: points.map(({ soup }) => soup),
    text: points.map(({ soup }) => hover(soup)),
    hoverinfo: "text",
    cliponaxis: false,
    marker: {
      color: points.map(({ soup }) => value(soups[soup], m)),
      colorscale: "Cividis",
      size: many ? 5 : 15,
      line: { color: css("--ink"), width: many ? 0 : 0.5 },
      colorbar: { title: barTitle, tickformat: ".3~%", ...bar },
    },
  };
  const chosen = points.filter((point) => point.chosen);
  const mark = {
    ...trace,
    ...place(chosen),
    customdata: chosen.map(({ soup }) => soup),
    text: [],
    hoverinfo: "skip",
    marker: { color: "rgba(0,0,0,0)", size: 22, line: { color: css("--chosen"), width: 3 } },
  };
  // No ticks at the corners, where those of two sides meet; the lower names stand below all ticks.
  const ticks = { tickvals: [0.2, 0.4, 0.6, 0.8], ticklen: 9, tickcolor: "rgba(0,0,0,0)", gridcolor: css("--rule"), min: 0 };
  const axis = (text) => ({ ...ticks, title: { text, font: { size: narrow ? 11 : 14 } } });
  const top = plain(shortened(corners[0], 28));
  const [b, c] = corners.slice(1).map((name) => axis(`<br>${inLines(name)}`));
  const ternary = { sum: 1, bgcolor: css("--ground"), aaxis: axis(top), baxis: b, caxis: c };
  const margin = { l: 70, r: narrow ? 70 : 30, t: 60, b: narrow ? 140 : 80 };
  draw(frame, [trace, mark], { ternary, showlegend: false, margin }, clicked);
}

// A name of up to 28 letters in lines of about 14.
function inLines(name) {
  const text = shortened(name, 28);
  const half = Math.ceil(text.length / 2);
  return text.length <= 14 ? plain(text) : `${plain(text.slice(0, half))}<br>${plain(text.slice(half))}`;
}

const simplex = (run) =>
  soups
    .map((_, i) => i)
    .filter((i) => soups[i].run === run && soups[i].weights && soups[i].weights.length === 3);
