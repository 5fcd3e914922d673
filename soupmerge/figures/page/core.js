// Shared by all parts: the data of the page, colours, and drawing with plotly.

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
// Escapes text: plotly interprets tags and entities.
const plain = (text) =>
  text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
// Cuts a long text in the middle, where names differ least.
const shortened = (text, most) =>
  text.length <= most ? text : `${text.slice(0, most - 1 - Math.floor(0.4 * most))}…${text.slice(-Math.floor(0.4 * most))}`;
const command = (soup) => (soup.make ? soup.make[0] + tails[soup.make[1]] : null);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const shades = () => page.palette[night.matches ? "dark" : "light"];

// Names of colours are like @metric:linf:8/255 or @ingredient:3; every radius has its norm's colour.
function shade(name) {
  return shades()[name.split(":").slice(0, 2).join(":")] || css("--quiet");
}

function element(tag, text = "", attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [name, content] of Object.entries(attributes)) node.setAttribute(name, content);
  return node;
}

function painted(node) {
  if (Array.isArray(node)) return node.map(painted);
  if (node === null || typeof node !== "object") return node;
  const paint = (key, inner) => {
    if (key !== "color" || typeof inner !== "string" || inner[0] !== "@") return painted(inner);
    return inner === "@ink" ? css("--ink") : shade(inner);
  };
  return Object.fromEntries(Object.entries(node).map(([key, inner]) => [key, paint(key, inner)]));
}

function layout(extra = {}) {
  const axis = { gridcolor: css("--rule"), linecolor: css("--quiet") };
  return {
    paper_bgcolor: css("--ground"),
    plot_bgcolor: css("--ground"),
    font: { color: css("--ink"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 60, r: 16, t: 24, b: 50 },
    hovermode: "closest",
    hoverlabel: { bgcolor: css("--raised"), font: { color: css("--ink") }, align: "left" },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
    ...extra,
    // Only in its own direction: with both, plotly's layout may not terminate.
    xaxis: { ...axis, automargin: "height", ...(extra.xaxis || {}) },
    yaxis: { ...axis, automargin: "width", ...(extra.yaxis || {}) },
  };
}

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };

function draw(frame, data, extra, clicked = choose) {
  const again = frame.classList.contains("js-plotly-plot");
  Plotly.react(frame, data, layout(extra), CONFIG);
  const picture = frame.querySelector(".plot-container");
  if (picture) picture.setAttribute("aria-hidden", "true"); // the tables hold the same numbers
  if (!again) {
    frame.on("plotly_click", (event) => {
      const index = event.points[0].customdata;
      if (Number.isInteger(index)) clicked(index);
    });
  }
}
