// Draws the curves of a report as SVG from the data in the page. It fetches nothing.
"use strict";

const { runs, charts } = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 56, right: 14, top: 10, bottom: 26 };
const HEIGHT = 230;
const COLOURS = 8;

// What the controls say.
const view = { axis: "step", smoothing: 0, hidden: new Set() };

// ---------------------------------------------------------------- elements

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function shape(parent, name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.append(node);
  return node;
}

function colour(node, run) {
  node.style.setProperty("--colour", `var(--run-${run % COLOURS})`);
  return node;
}

function swatch(run) {
  return colour(element("span", { class: "swatch" }), run);
}

// ---------------------------------------------------------------- numbers

function short(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e9) return trim(value / 1e9, 3) + "G";
  if (size >= 1e6) return trim(value / 1e6, 3) + "M";
  if (size >= 1e4) return trim(value / 1e3, 4) + "k";
  if (size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e").replace("-", "\u2212");
  return trim(value, 4);
}

function trim(value, digits) {
  return String(Number(value.toPrecision(digits))).replace("-", "\u2212");
}

function format(value, unit) {
  if (unit === "share") return `${trim(100 * value, 4)} %`;
  if (unit === "milliseconds") return `${short(value)} ms`;
  return short(value);
}

// A label of an axis that reaches up to `top`: all in thousands, or none.
function label(value, top) {
  return top >= 1e4 && top < 1e6 && value >= 1e3 ? trim(value / 1e3, 4) + "k" : short(value);
}

function whole(value) {
  return value.toLocaleString("en").replaceAll(",", "\u202f");
}

// Round values that divide [low, high] into about `count` parts.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) {
    found.push(Number((at * step).toPrecision(12)));
  }
  return found;
}

// Powers of ten in [low, high], or 1-2-5 steps where there are few.
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    const factors = high / low > 300 ? [1] : high / low > 4 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
    found.push(...factors.map((factor) => Number((factor * 10 ** power).toPrecision(12))));
  }
  const inside = found.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  const every = Math.ceil(inside.length / 6);
  return inside.filter((_, index) => index % every === 0);
}

// ---------------------------------------------------------------- curves

// Exponential moving mean, corrected for its start as TensorBoard's is.
function smooth(values, weight) {
  let sum = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
}

function shown(chart) {
  return chart.curves.filter((curve) => !view.hidden.has(curve.run));
}

function values(curve) {
  const { series, style } = curve;
  return style === "noisy" && view.smoothing > 0 ? smooth(series.mean, view.smoothing) : series.mean;
}

function extent(numbers) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of numbers) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function spansDecades(chart) {
  const [low, high] = extent(chart.curves.flatMap(({ series }) => [...series.mean, ...series.min, ...series.max]));
  return low > 0 && high > 100 * low;
}

function ranges(chart, curves) {
  const isLog = chart.logarithmic;
  const all = curves.flatMap(({ series }) => [...series.mean, ...series.min, ...series.max]);
  let [low, high] = extent(isLog ? all.filter((value) => value > 0) : all);
  if (low > high) [low, high] = isLog ? [0.1, 1] : [0, 1];
  if (isLog) {
    const pad = Math.max((high / low) ** 0.04, 1.02);
    [low, high] = [low / pad, high * pad];
  } else {
    if (chart.from_zero) low = Math.min(low, 0);
    const pad = (high - low || Math.abs(high) || 1) * 0.05;
    high += pad;
    if (!chart.from_zero) low = low >= 0 ? Math.max(0, low - pad) : low - pad;
    if (chart.unit === "share") high = Math.min(high, 1);
  }
  const [first, last] = extent(curves.flatMap(({ series }) => series[view.axis]));
  return { low, high, first: Math.min(first, 0), last: Math.max(last, 1) };
}

function scales(chart, curves, width) {
  const range = ranges(chart, curves);
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const across = (right - MARGIN.left) / (range.last - range.first);
  const level = chart.logarithmic ? Math.log : (value) => value;
  const up = (bottom - MARGIN.top) / (level(range.high) - level(range.low));
  return {
    ...range,
    right,
    bottom,
    x: (at) => MARGIN.left + (at - range.first) * across,
    at: (x) => range.first + (x - MARGIN.left) / across,
    y: (value) => (chart.logarithmic && value <= 0 ? bottom : bottom - (level(value) - level(range.low)) * up),
  };
}

// ---------------------------------------------------------------- drawing

function path(xs, ys, stairs) {
  let commands = "";
  let pen = false;
  xs.forEach((x, index) => {
    const y = ys[index];
    if (y === null) {
      pen = false;
      return;
    }
    const before = stairs && pen ? `H${x.toFixed(1)}` : "";
    commands += `${before}${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  });
  return commands;
}

// The area between the least and the greatest values, broken where there are none.
function band(xs, lows, highs) {
  let commands = "";
  let start = 0;
  for (let index = 0; index <= xs.length; index++) {
    if (index < xs.length && lows[index] !== null) continue;
    const there = xs.slice(start, index);
    if (there.length > 0) {
      const upper = there.map((x, offset) => `${x.toFixed(1)} ${highs[start + offset].toFixed(1)}`);
      const lower = there.map((x, offset) => `${x.toFixed(1)} ${lows[start + offset].toFixed(1)}`);
      commands += `M${upper.join("L")}L${lower.reverse().join("L")}Z`;
    }
    start = index + 1;
  }
  return commands;
}

function drawAxes(svg, chart, scale) {
  const levels = chart.logarithmic ? logTicks(scale.low, scale.high) : ticks(scale.low, scale.high, 5);
  for (const level of levels) {
    const y = scale.y(level);
    shape(svg, "line", { class: "grid", x1: MARGIN.left, x2: scale.right, y1: y, y2: y });
    const text = shape(svg, "text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" });
    text.textContent = chart.unit === "share" ? `${trim(100 * level, 4)} %` : label(level, scale.high);
  }
  shape(svg, "line", { class: "axis", x1: MARGIN.left, x2: scale.right, y1: scale.bottom, y2: scale.bottom });
  for (const at of ticks(scale.first, scale.last, Math.max(2, Math.floor((scale.right - MARGIN.left) / 90)))) {
    const text = shape(svg, "text", { x: scale.x(at), y: scale.bottom + 18, "text-anchor": "middle" });
    text.textContent = label(at, scale.last);
  }
}

function drawCurve(svg, curve, scale) {
  const { series, style } = curve;
  const xs = series[view.axis].map(scale.x);
  const heights = (numbers) => numbers.map((value) => (value === null ? null : scale.y(value)));
  const group = colour(shape(svg, "g", {}), curve.run);
  if (series.min.length > 0) {
    shape(group, "path", { class: "band", d: band(xs, heights(series.min), heights(series.max)) });
  }
  const smoothed = values(curve);
  if (smoothed !== series.mean && series.min.length === 0) {
    shape(group, "path", { class: "line raw", d: path(xs, heights(series.mean)) });
  }
  const ys = heights(smoothed);
  if (style !== "diamonds") {
    const dashed = curve.note === "training set" ? " dashed" : "";
    shape(group, "path", { class: `line${dashed}`, d: path(xs, ys, style === "stairs") });
  }
  const marked = style === "diamonds" || (style === "dots" && xs.length <= 60) || xs.length === 1;
  if (marked) xs.forEach((x, index) => ys[index] !== null && mark(group, style, x, ys[index]));
  for (const index of series.not_finite) lost(group, xs[index], series[view.axis][index]);
}

function mark(group, style, x, y) {
  if (style === "diamonds") {
    shape(group, "path", { class: "mark full", d: `M${x} ${y - 6}l6 6l-6 6l-6 -6z` });
  } else {
    shape(group, "circle", { class: "mark", cx: x, cy: y, r: 3 });
  }
}

// A cross at the upper edge where a value is not a number.
function lost(group, x, at) {
  const y = MARGIN.top;
  const cross = shape(group, "path", { class: "lost", d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8` });
  shape(cross, "title", {}).textContent = `not a finite number at ${view.axis} ${at}`;
}

// ---------------------------------------------------------------- read-out

// Index of the value of a curve nearest to `at`, of stairs the one that holds there; none beyond its ends.
function nearest(curve, at, tolerance) {
  const places = curve.series[view.axis];
  let [low, high] = [0, places.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (places[middle] < at) low = middle;
    else high = middle;
  }
  const isLow = curve.style === "stairs" ? places[high] > at : at - places[low] <= places[high] - at;
  const index = isLow ? low : high;
  const between = at >= places[0] && at <= places[places.length - 1] && curve.style !== "diamonds";
  return between || Math.abs(places[index] - at) <= tolerance ? index : null;
}

// One line a curve: what it is, its value, and how that value spreads.
function readings(chart, scale, at) {
  const tolerance = 8 * (scale.at(1) - scale.at(0));
  return shown(chart).flatMap((curve) => {
    const index = nearest(curve, at, tolerance);
    if (index === null) return [];
    const { series, run, note } = curve;
    const smoothed = values(curve)[index];
    const value = smoothed === null ? "not finite" : format(smoothed, chart.unit);
    const spread =
      series.min.length > 0 && series.min[index] !== null
        ? `${format(series.min[index], chart.unit)} to ${format(series.max[index], chart.unit)}`
        : "";
    return [{ run, note, value, spread, place: series[view.axis][index], height: smoothed }];
  });
}

function showReadout(panel, at) {
  const { chart, scale, readout, cursor } = panel;
  const lines = readings(chart, scale, at);
  const head = element("p", { class: "quiet" }, `${view.axis} ${whole(Math.round(at))}`);
  const rows = lines.map(({ run, note, value, spread }) => {
    const name = element("td", {}, swatch(run), runs[run] + (note ? `, ${note}` : ""));
    return element("tr", {}, name, element("td", { class: "number" }, value), element("td", { class: "quiet" }, spread));
  });
  readout.replaceChildren(head, element("table", {}, ...rows));
  readout.hidden = lines.length === 0;
  const x = panel.svg.getBoundingClientRect().left - panel.figure.getBoundingClientRect().left + scale.x(at);
  const width = readout.offsetWidth;
  const isRight = x + width + 14 > panel.figure.clientWidth;
  readout.style.left = `${Math.max(4, isRight ? x - width - 12 : x + 12)}px`;
  readout.style.top = "58px";
  cursor.removeAttribute("visibility");
  return lines;
}

function moveCursors(panels, at) {
  for (const { scale, cursor } of panels) {
    const inside = at !== null && at >= scale.first && at <= scale.last;
    cursor.setAttribute("visibility", inside ? "visible" : "hidden");
    if (!inside) continue;
    cursor.setAttribute("x1", scale.x(at));
    cursor.setAttribute("x2", scale.x(at));
  }
}

function listen(panel, panels) {
  const { figure, svg, readout, spoken } = panel;
  const leave = () => {
    readout.hidden = true;
    moveCursors(panels, null);
  };
  const go = (at) => {
    panel.at = Math.min(Math.max(at, panel.scale.first), panel.scale.last);
    moveCursors(panels, panel.at);
    return showReadout(panel, panel.at);
  };
  svg.addEventListener("pointermove", (event) => {
    go(panel.scale.at(event.clientX - svg.getBoundingClientRect().left));
  });
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const { first, last } = panel.scale;
    const here = panel.at ?? last;
    const step = (last - first) / (event.shiftKey ? 20 : 100);
    const target = { ArrowLeft: here - step, ArrowRight: here + step, Home: first, End: last }[event.key];
    if (event.key === "Escape") leave();
    if (target === undefined) return;
    event.preventDefault();
    const lines = go(target);
    const said = lines.map(({ run, note, value }) => `${runs[run]} ${note} ${value}`).join("; ");
    spoken.textContent = `${view.axis} ${Math.round(panel.at)}: ${said}`;
  });
  figure.addEventListener("focusin", () => panel.at === undefined && (panel.at = panel.scale.last));
}

// ---------------------------------------------------------------- page

// In words what the chart shows, for those who do not see it.
function describe(chart) {
  const parts = shown(chart).map((curve) => {
    const known = curve.series.mean.filter((value) => value !== null);
    const ends = known.length > 0 ? [known[0], known[known.length - 1]].map((value) => format(value, chart.unit)) : [];
    const name = runs[curve.run] + (curve.note ? `, ${curve.note}` : "");
    return ends.length > 0 ? `${name}: from ${ends[0]} to ${ends[1]}` : `${name}: no finite value`;
  });
  return `${chart.title}. ${parts.join(". ")}. Arrow keys read values.`;
}

function draw(panel) {
  const { chart, svg } = panel;
  const width = svg.clientWidth || 460;
  const curves = shown(chart);
  const scale = scales(chart, curves, width);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("aria-label", describe(chart));
  drawAxes(svg, chart, scale);
  for (const curve of curves) drawCurve(svg, curve, scale);
  const cursor = shape(svg, "line", { class: "cursor", y1: MARGIN.top, y2: scale.bottom, visibility: "hidden" });
  Object.assign(panel, { scale, cursor });
}

// What the marks of a chart mean, and over how many steps its bands reach.
function key(chart) {
  const notes = new Set(chart.curves.map(({ note }) => note));
  const stride = Math.max(...chart.curves.map(({ series }) => series.stride));
  const words = [];
  if (notes.has("training set")) words.push("dashed: training set");
  if (notes.has("validation")) words.push("circles: validation");
  if (notes.has("test")) words.push("diamonds: test");
  if (stride > 1) words.push(`line: mean, band: least and greatest, of up to ${stride} steps`);
  if (chart.curves.some(({ series }) => series.not_finite.length > 0)) words.push("cross: not a finite number");
  return words.join("; ");
}

function makePanel(chart, index) {
  const id = `chart-${index}`;
  const title = element("span", {}, chart.title);
  const caption = element("figcaption", {}, title);
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ id, role: "img", tabindex: 0 })) svg.setAttribute(name, value);
  const readout = element("div", { class: "readout" });
  readout.hidden = true;
  const spoken = element("div", { class: "spoken", "aria-live": "polite" });
  const figure = element("figure", {}, caption, element("p", { class: "key" }, key(chart)), svg, readout, spoken);
  const panel = { chart, figure, svg, readout, spoken };
  if (chart.log !== "never") {
    const box = element("input", { type: "checkbox", "aria-controls": id });
    chart.logarithmic = chart.log === "for_wide_spans" && spansDecades(chart);
    box.checked = chart.logarithmic;
    box.addEventListener("change", () => {
      chart.logarithmic = box.checked;
      draw(panel);
    });
    caption.append(element("label", {}, box, "log"));
  }
  return panel;
}

function axisChoice(redraw) {
  const options = [["step", "steps"], ["samples", "samples"]].map(([axis, word]) => {
    const radio = element("input", { type: "radio", name: "axis", value: axis });
    radio.checked = axis === view.axis;
    radio.addEventListener("change", () => {
      view.axis = axis;
      redraw();
    });
    return element("label", {}, radio, word);
  });
  return element("fieldset", {}, element("legend", {}, "Against"), ...options);
}

function smoothingChoice(redraw) {
  const range = element("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: 0 });
  const output = element("output", {}, "0");
  range.addEventListener("input", () => {
    view.smoothing = Number(range.value);
    output.textContent = range.value;
    redraw();
  });
  return element("label", {}, "Smoothing", range, output);
}

function runChoice(redraw) {
  const boxes = runs.map((label, run) => {
    const box = element("input", { type: "checkbox" });
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) view.hidden.delete(run);
      else view.hidden.add(run);
      redraw();
    });
    return element("label", {}, box, swatch(run), label);
  });
  return element("fieldset", {}, element("legend", {}, "Runs"), ...boxes);
}

function main() {
  for (const node of document.querySelectorAll(".swatch[data-run]")) colour(node, Number(node.dataset.run));
  const section = document.getElementById("curves");
  if (charts.length === 0) {
    section.append(element("p", { class: "quiet" }, "No steps were recorded."));
    return;
  }
  const panels = charts.map(makePanel);
  const redraw = () => {
    for (const panel of panels) {
      panel.at = undefined;
      panel.readout.hidden = true;
      draw(panel);
    }
  };
  section.append(
    element("div", { class: "controls" }, runChoice(redraw), axisChoice(redraw), smoothingChoice(redraw)),
    element("div", { class: "charts" }, ...panels.map(({ figure }) => figure)),
  );
  for (const panel of panels) listen(panel, panels);
  new ResizeObserver(redraw).observe(section);
  redraw();
}

main();
