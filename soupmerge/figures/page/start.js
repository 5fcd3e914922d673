// The controls, and the start of the page.

function refresh(chosen = state.chosen) {
  fronts = runs.map((_, run) => frontOf(run));
  sortTable();
  show(chosen);
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
    const means = soups.some((soup) => soup.run === r && soup.groups > 1) ? ", mean coefficients" : "";
    at("ternary").append(element("h3", `Simplex of ${run.title}${means}, shaded by the vertical metric`));
    at("ternary").append(element("div", "", { id: `ternary-${r}`, class: "map" }));
  });
}

function drawPanels() {
  page.panels.forEach((panel, p) => draw(at(`panel-${p}`), painted(panel.data), painted(panel.layout)));
}

function start() {
  startFronts();
  drawPanels();
  night.addEventListener("change", drawPanels);
  if (!soups.length) return;
  startControls();
  startTernary();
  const best = frontOf(soups[0].run)[0]; // the highest on the front
  refresh(best === undefined ? 0 : best);
  night.addEventListener("change", () => refresh());
}

start();
