// The chosen soup: its numbers and its command, and moving to another soup.

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

function accuracies(soup, caption) {
  const measured = Object.entries(soup.metrics).map(([m, [accuracy, low, high, correct, n]]) => [
    metrics[m].name,
    percent(accuracy),
    `${percent(low)} to ${percent(high)}`,
    `${correct} of ${n}`,
  ]);
  return rows(caption, ["metric", "accuracy", "95% interval", "correct"], measured);
}

function description(soup) {
  const parts = [element("h3", `${soup.number}. ${soup.name}`)];
  const about = several ? `${runs[soup.run].title}, ${soup.kind}` : soup.kind;
  parts.push(element("p", about, { class: "quiet" }));
  parts.push(accuracies(soup, "Accuracy (under attack, an upper bound)"));
  parts.push(element("p", judges[soup.judge], { class: "quiet" }));
  if (soup.weights) {
    const what = soup.groups > 1 ? `Coefficients (means over ${soup.groups} groups)` : "Coefficients";
    const lines = soup.weights.map((w, k) => [runs[soup.run].ingredients[k], w.toPrecision(4)]);
    parts.push(rows(what, ["ingredient", "coefficient"], lines));
  }
  for (const note of soup.notes || []) parts.push(element("p", note, { class: "remarks" }));
  return parts;
}

function commandSection(soup) {
  const line = command(soup);
  if (line === null) return [element("p", "A checkpoint or an ensemble, which no mix command makes.")];
  const parts = [element("h3", "Command that makes it"), element("pre", line, { id: "command", dir: "ltr" })];
  const bar = element("div", "", { class: "bar" });
  const copy = element("button", "copy the command", { type: "button", id: "copy" });
  copy.addEventListener("click", copyCommand);
  bar.append(copy);
  const recipe = recipes[soup.number];
  if (recipe) {
    const save = element("button", `save recipe-${soup.number}.json for it`, { type: "button" });
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

function copyCommand() {
  const line = command(soups[state.chosen]);
  if (line !== null) copyLine(line, at("command"));
}

// Copies a line of the page, or selects it where it stands.
async function copyLine(line, place) {
  try {
    await navigator.clipboard.writeText(line);
    say("The command was copied.");
  } catch {
    window.getSelection().selectAllChildren(place);
    say("The command is selected: copy it with the keyboard.");
  }
}

const say = (text) => {
  at("status").textContent = text;
};

function show(index) {
  state.chosen = index;
  const soup = soups[index];
  at("detail").replaceChildren(...description(soup), ...commandSection(soup));
}

function choose(index) {
  show(index);
  const soup = soups[index];
  const place = fronts[soup.run].indexOf(index) + 1;
  const front = place ? `${place} of ${fronts[soup.run].length} on the front` : "not on the front";
  const measured = Object.keys(soup.metrics).map((m) => `${metrics[m].name} ${percent(value(soup, m))}`);
  say(`Soup ${soup.number}, ${soup.name}: ${measured.join(", ")}; ${front}.`);
  state.rows = Math.max(0, Math.floor(order.indexOf(index) / ROWS));
  fillTable();
  Plotly.relayout(at("map"), { shapes: ring() });
  clearTimeout(state.timer); // redraws thousands of dots: wait until no key is pressed
  state.timer = setTimeout(() => ringTernary(soup), 250);
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
  // From a soup that is not on the front, the first step leads onto it.
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
