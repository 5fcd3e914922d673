// The table of soups, a page of rows at a time.

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
  const column = columns().find(({ key }) => key === state.key);
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
