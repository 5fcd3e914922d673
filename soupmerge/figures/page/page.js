"use strict";
(() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const { soups, metrics, runs, judges, tails, recipes } = page;
  const at = (id) => document.getElementById(id);
  const night = window.matchMedia("(prefers-color-scheme: dark)");
  const ROWS = 50;
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "pentagon", "star", "x"];
  const INGREDIENT = "ingredient";
  const several = runs.length > 1;
  const state = { x: 0, y: metrics.length - 1, chosen: 0, rows: 0, key: "number", down: false };
  let fronts = [];
  let order = [];

  const percent = (value) => `${(100 * value).toFixed(1)}%`;
  const value = (soup, m) => (soup.metrics[m] ? soup.metrics[m][0] : null);
  const known = (soup) => value(soup, state.x) !== null && value(soup, state.y) !== null;
  // Plotly reads tags and entities in its texts.
  const plain = (text) =>
    text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const command = (soup) => (soup.make ? soup.make[0] + tails[soup.make[1]] : null);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shades = () => page.palette[night.matches ? "dark" : "light"];

  function element(tag, text = "", attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, content] of Object.entries(attributes)) made.setAttribute(name, content);
    return made;
  }

  function painted(node) {
    if (Array.isArray(node)) return node.map(painted);
    if (node === null || typeof node !== "object") return node;
    const paint = (key, inner) => {
      if (key !== "color" || typeof inner !== "string" || inner[0] !== "@") return painted(inner);
      return inner === "@ink" ? css("--ink") : shades()[inner] || css("--quiet");
    };
    return Object.fromEntries(Object.entries(node).map(([key, inner]) => [key, paint(key, inner)]));
  }

  function layout(extra = {}) {
    const axis = { gridcolor: css("--rule"), linecolor: css("--quiet"), automargin: true };
    return {
      paper_bgcolor: css("--ground"),
      plot_bgcolor: css("--ground"),
      font: { color: css("--ink"), family: "system-ui, sans-serif", size: 13 },
      margin: { l: 60, r: 16, t: 24, b: 50 },
      hovermode: "closest",
      hoverlabel: { bgcolor: css("--raised"), font: { color: css("--ink") }, align: "left" },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
      ...extra,
      xaxis: { ...axis, ...(extra.xaxis || {}) },
      yaxis: { ...axis, ...(extra.yaxis || {}) },
    };
  }

  const CONFIG = { displaylogo: false, responsive: true, displayModeBar: "hover" };

  function draw(frame, data, extra) {
    const again = frame.classList.contains("js-plotly-plot");
    Plotly.react(frame, data, layout(extra), CONFIG);
    const picture = frame.querySelector(".plot-container");
    if (picture) picture.setAttribute("aria-hidden", "true"); // the tables say it in words
    if (!again) {
      frame.on("plotly_click", (event) => {
        const index = event.points[0].customdata;
        if (Number.isInteger(index)) choose(index);
      });
    }
  }

  function frontOf(run) {
    const mine = soups.map((_, i) => i).filter((i) => soups[i].run === run && known(soups[i]));
    const at = (i) => [value(soups[i], state.x), value(soups[i], state.y)];
    mine.sort((a, b) => at(b)[0] - at(a)[0] || at(b)[1] - at(a)[1]);
    const kept = [];
    for (const i of mine) {
      const last = kept.length ? at(kept[kept.length - 1]) : [Infinity, -Infinity];
      const same = at(i)[0] === last[0] && at(i)[1] === last[1];
      if (at(i)[1] > last[1] || same) kept.push(i);
    }
    return kept.reverse();
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
    const shade = shades()[`@metric:${metrics[state.y].key}`] || css("--quiet");
    const shown = soups.map((_, i) => i).filter((i) => known(soups[i]));
    const many = shown.length > 1000;
    const label = (soup) => (several ? runs[soup.run].title : soup.kind);
    const mixed = shown.filter((i) => soups[i].kind !== INGREDIENT);
    const kinds = [...new Set(mixed.map((i) => label(soups[i])))];
    const traces = kinds.map((kind, k) => {
      const mine = mixed.filter((i) => label(soups[i]) === kind);
      const symbol = SYMBOLS[k % SYMBOLS.length];
      const marker = { color: shade, symbol, size: many ? 5 : 9, opacity: many ? 0.5 : 0.8 };
      return dots(mine, { name: plain(kind), marker });
    });
    fronts.forEach((front) => {
      const line = { color: shade, width: 2 };
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
    const ring = { color: "rgba(0,0,0,0)", size: 18, line: { color: css("--chosen"), width: 3 } };
    const one = known(soups[state.chosen]) ? [state.chosen] : [];
    traces.push(dots(one, { marker: ring, hoverinfo: "skip", name: "chosen", showlegend: false }));
    return traces;
  }

  function drawMap() {
    const axis = (m) => ({
      title: { text: `accuracy, ${plain(metrics[m].name)}` },
      tickformat: ".3~%",
      zeroline: false,
    });
    draw(at("map"), mapTraces(), { xaxis: axis(state.x), yaxis: axis(state.y), showlegend: true });
  }

  function drawTernary(run) {
    const frame = at(`ternary-${run}`);
    if (!frame) return;
    const mine = simplex(run).filter((i) => known(soups[i]));
    const many = mine.length > 1000;
    const [a, b, c] = runs[run].pots.map((name) => plain(name.slice(0, 24)));
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
    const ring = {
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
    draw(frame, [trace, ring], { ternary, showlegend: false, margin: { l: 60, r: 20, t: 50, b: 50 } });
  }

  const simplex = (run) =>
    soups
      .map((_, i) => i)
      .filter((i) => soups[i].run === run && soups[i].weights && soups[i].weights.length === 3);

  function rows(caption, header, body) {
    const table = element("table");
    table.append(element("caption", caption));
    const head = table.createTHead().insertRow();
    header.forEach((text, k) => head.append(element("th", text, k ? { class: "n", scope: "col" } : { scope: "col" })));
    const inside = table.createTBody();
    for (const line of body) {
      const row = inside.insertRow();
      line.forEach((text, k) => row.append(element(k ? "td" : "th", text, k ? { class: "n" } : { scope: "row" })));
    }
    return table;
  }

  function told(soup) {
    const parts = [element("h3", `${soup.number}. ${soup.name}`)];
    const about = several ? `${runs[soup.run].title}, ${soup.kind}` : soup.kind;
    parts.push(element("p", about, { class: "quiet" }));
    const measured = Object.entries(soup.metrics).map(([m, [accuracy, low, high, correct, n]]) => [
      metrics[m].name,
      percent(accuracy),
      `${percent(low)} to ${percent(high)}`,
      `${correct} of ${n}`,
    ]);
    parts.push(rows("Accuracy; under attack, an upper bound", ["metric", "accuracy", "95% interval", "right"], measured));
    parts.push(element("p", judges[soup.judge], { class: "quiet" }));
    if (soup.weights) {
      const what = soup.groups > 1 ? `Coefficients, means of ${soup.groups} groups` : "Coefficients";
      const lines = soup.weights.map((w, k) => [runs[soup.run].pots[k], w.toPrecision(4)]);
      parts.push(rows(what, ["ingredient", "coefficient"], lines));
    }
    for (const note of soup.notes || []) parts.push(element("p", note, { class: "remarks" }));
    return parts;
  }

  function offered(soup) {
    const line = command(soup);
    if (line === null) return [element("p", "A checkpoint by itself, or an ensemble: nothing is mixed.")];
    const parts = [element("h3", "The command that makes it"), element("pre", line, { id: "command", dir: "ltr" })];
    const bar = element("div", "", { class: "bar" });
    const copy = element("button", "copy the command", { type: "button", id: "copy" });
    copy.addEventListener("click", copyCommand);
    bar.append(copy);
    const recipe = recipes[soup.number];
    if (recipe) {
      const save = element("button", `save recipe-${soup.number}.json, which it needs`, { type: "button" });
      save.addEventListener("click", () => saveRecipe(soup.number, recipe));
      bar.append(save);
    }
    parts.push(bar);
    return parts;
  }

  function saveRecipe(number, recipe) {
    const url = URL.createObjectURL(new Blob([JSON.stringify(recipe, null, 1)], { type: "application/json" }));
    element("a", "", { href: url, download: `recipe-${number}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  async function copyCommand() {
    const line = command(soups[state.chosen]);
    if (line === null) return;
    try {
      await navigator.clipboard.writeText(line);
      say("The command is copied.");
    } catch {
      window.getSelection().selectAllChildren(at("command"));
      say("The command is selected: copy it by the keyboard.");
    }
  }

  const say = (text) => {
    at("status").textContent = text;
  };

  function choose(index, { quiet = false } = {}) {
    state.chosen = index;
    const soup = soups[index];
    at("detail").replaceChildren(...told(soup), ...offered(soup));
    if (!quiet) {
      const place = fronts[soup.run].indexOf(index);
      const front = place < 0 ? "not on the front" : `${place + 1} of ${fronts[soup.run].length} on the front`;
      const told = Object.keys(soup.metrics).map((m) => `${metrics[m].name} ${percent(value(soup, m))}`);
      say(`Soup ${soup.number}, ${soup.name}: ${told.join(", ")}; ${front}.`);
      state.rows = Math.max(0, Math.floor(order.indexOf(index) / ROWS));
      const ring = at("map").data.length - 1;
      const [x, y] = [value(soup, state.x), value(soup, state.y)];
      Plotly.restyle(at("map"), { x: [[x]], y: [[y]] }, [ring]);
      ringTernary(soup);
    }
    fillTable();
  }

  function ringTernary(soup) {
    runs.forEach((_, run) => {
      const frame = at(`ternary-${run}`);
      if (!frame) return;
      const [a, b, c] = soup.run === run ? soup.weights : [null, null, null];
      Plotly.restyle(frame, { a: [[a]], b: [[b]], c: [[c]] }, [1]);
    });
  }

  function along(step) {
    const front = fronts[soups[state.chosen].run];
    if (!front.length) return;
    const here = value(soups[state.chosen], state.x);
    const place = front.indexOf(state.chosen);
    // From beside the front, the next step leads onto it.
    const beside = front.filter((i) => value(soups[i], state.x) < here).length - (step > 0 ? 1 : 0);
    const next = place < 0 ? beside + step : place + step;
    choose(front[Math.min(front.length - 1, Math.max(0, next))]);
  }

  function through(step) {
    const next = Math.min(order.length - 1, Math.max(0, order.indexOf(state.chosen) + step));
    choose(order[next]);
  }

  const KEYS = {
    ArrowRight: () => along(1),
    ArrowLeft: () => along(-1),
    ArrowDown: () => through(1),
    ArrowUp: () => through(-1),
    Home: () => along(-Infinity),
    End: () => along(Infinity),
    c: copyCommand,
  };

  function columns() {
    const all = [
      { key: "number", title: "no.", of: (s) => s.number, n: true },
      { key: "name", title: "soup", of: (s) => s.name },
      ...(several ? [{ key: "run", title: "run", of: (s) => runs[s.run].title }] : []),
      { key: "kind", title: "made by", of: (s) => s.kind },
    ];
    metrics.forEach((metric, m) => {
      const text = (s) => (s.metrics[m] ? percent(s.metrics[m][0]) : "");
      all.push({ key: `m${m}`, title: metric.name, of: (s) => value(s, m) ?? -1, text, n: true });
    });
    const front = (s) => (fronts[s.run].includes(s.number - 1) ? "front" : "");
    all.push({ key: "front", title: "front", of: front });
    return all;
  }

  function sortTable() {
    const column = columns().find((one) => one.key === state.key);
    const keys = soups.map(column.of);
    const compare = (a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b);
    const shown = at("front-only").checked ? [...new Set(fronts.flat())] : soups.map((_, i) => i);
    order = shown.sort(state.down ? (a, b) => compare(b, a) : compare);
  }

  function sortBy(key) {
    state.down = state.key === key ? !state.down : key.startsWith("m");
    state.key = key;
    state.rows = 0;
    sortTable();
    fillTable();
    at(`sort-${key}`).focus();
  }

  function fillTable() {
    const table = element("table");
    const head = table.createTHead().insertRow();
    const all = columns();
    for (const column of all) {
      const sorted = column.key === state.key;
      const direction = sorted ? (state.down ? "descending" : "ascending") : "none";
      const cell = element("th", "", { scope: "col", "aria-sort": direction, class: column.n ? "n" : "" });
      const arrow = sorted ? (state.down ? " ↓" : " ↑") : "";
      const button = element("button", column.title + arrow, { type: "button", id: `sort-${column.key}` });
      button.addEventListener("click", () => sortBy(column.key));
      cell.append(button);
      head.append(cell);
    }
    const body = table.createTBody();
    for (const i of order.slice(state.rows * ROWS, (state.rows + 1) * ROWS)) {
      const row = body.insertRow();
      if (i === state.chosen) row.setAttribute("aria-current", "true");
      for (const column of all) {
        const text = String((column.text || column.of)(soups[i]));
        const cell = element("td", column.key === "name" ? "" : text, { class: column.n ? "n" : "" });
        if (column.key === "name") {
          const button = element("button", text, { type: "button", "data-soup": i });
          cell.append(button);
        }
        row.append(cell);
      }
    }
    at("soups").replaceChildren(...table.children);
    const first = state.rows * ROWS;
    const last = Math.min(order.length, first + ROWS);
    at("where").textContent = `${Math.min(first + 1, last)} to ${last} of ${order.length}`;
    at("earlier").disabled = first === 0;
    at("later").disabled = last >= order.length;
  }

  function refresh() {
    fronts = runs.map((_, run) => frontOf(run));
    sortTable();
    drawMap();
    runs.forEach((_, run) => drawTernary(run));
    fillTable();
  }

  function startControls() {
    for (const id of ["x", "y"]) {
      metrics.forEach((metric, m) => at(id).append(element("option", metric.name, { value: m })));
      at(id).value = String(state[id]);
      at(id).addEventListener("change", () => {
        state[id] = Number(at(id).value);
        refresh();
      });
    }
    at("back").addEventListener("click", () => along(-1));
    at("on").addEventListener("click", () => along(1));
    at("earlier").addEventListener("click", () => turn(-1));
    at("later").addEventListener("click", () => turn(1));
    at("front-only").addEventListener("change", () => {
      state.rows = 0;
      sortTable();
      fillTable();
    });
    at("soups").addEventListener("click", (event) => {
      const index = event.target.dataset.soup;
      if (index === undefined) return;
      choose(Number(index));
      at("soups").querySelector(`[data-soup="${index}"]`)?.focus();
    });
    at("map").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
      event.preventDefault();
      KEYS[event.key]();
    });
  }

  function turn(step) {
    state.rows += step;
    fillTable();
  }

  function startTernary() {
    runs.forEach((run, r) => {
      if (simplex(r).length < 3) return;
      at("ternary").append(element("h3", `Simplex of ${run.title}, shaded by what is chosen upwards`));
      at("ternary").append(element("div", "", { id: `ternary-${r}`, class: "map" }));
    });
  }

  function drawPanels() {
    page.panels.forEach((panel, p) => draw(at(`panel-${p}`), painted(panel.data), painted(panel.layout)));
  }

  function start() {
    drawPanels();
    night.addEventListener("change", drawPanels);
    if (!soups.length) return;
    startControls();
    startTernary();
    refresh();
    const best = fronts[0].length ? fronts[0][fronts[0].length - 1] : 0;
    state.chosen = fronts[0].reduce((a, b) => (value(soups[b], state.y) > value(soups[a], state.y) ? b : a), best);
    choose(state.chosen, { quiet: true });
    refresh();
    night.addEventListener("change", refresh);
  }

  start();
})();
