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

function dots(indices, more) {
  return {
    type: "scatter",
    mode: "markers",
    x: indices.map((i) => value(soups[i], state.x)),
    y: indices.map((i) => value(soups[i], state.y)),
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
  if (alone.length) {
    const marker = { color: css("--ground"), size: 10, line: { color: css("--ink"), width: 2 } };
    const trace = dots(alone, { name: "ingredients", marker });
    traces.push(trace);
    trace.mode = alone.length > 12 ? "markers" : "markers+text";
    trace.hovertext = trace.text;
    trace.text = alone.map((i) => plain(soups[i].name.slice(0, 24)));
    trace.textposition = "top center";
  }
  return traces;
}

// A shape rather than a trace: moving it redraws no dots.
function ring() {
  const soup = soups[state.chosen];
  if (!known(soup)) return [];
  return [
    {
      type: "circle",
      xsizemode: "pixel",
      ysizemode: "pixel",
      xanchor: value(soup, state.x),
      yanchor: value(soup, state.y),
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
  const many = mine.length > 1000;
  const [a, b, c] = runs[run].ingredients.map((name) => plain(name.slice(0, 24)));
  const column = (k) => mine.map((i) => soups[i].weights[k]);
  const values = mine.map((i) => value(soups[i], state.y));
  const trace = {
    type: "scatterternary",
    mode: "markers",
    a: column(0),
    b: column(1),
    c: column(2),
    customdata: mine,
    text: mine.map(hover),
    hoverinfo: "text",
    cliponaxis: false,
    marker: {
      color: values,
      colorscale: "Cividis",
      size: many ? 5 : 15,
      line: { color: css("--ink"), width: many ? 0 : 0.5 },
      colorbar: { title: { text: plain(metrics[state.y].name) }, tickformat: ".3~%", thickness: 12 },
    },
  };
  const chosen = mine.includes(state.chosen) ? [state.chosen] : [];
  const mark = {
    ...trace,
    a: chosen.map((i) => soups[i].weights[0]),
    b: chosen.map((i) => soups[i].weights[1]),
    c: chosen.map((i) => soups[i].weights[2]),
    customdata: chosen,
    text: [],
    hoverinfo: "skip",
    marker: { color: "rgba(0,0,0,0)", size: 22, line: { color: css("--chosen"), width: 3 } },
  };
  const axis = (title) => ({ title: { text: title }, gridcolor: css("--rule"), min: 0 });
  const ternary = { sum: 1, bgcolor: css("--ground"), aaxis: axis(a), baxis: axis(b), caxis: axis(c) };
  draw(frame, [trace, mark], { ternary, showlegend: false, margin: { l: 60, r: 20, t: 50, b: 50 } });
}

const simplex = (run) =>
  soups
    .map((_, i) => i)
    .filter((i) => soups[i].run === run && soups[i].weights && soups[i].weights.length === 3);
