// A report's charts: all figures of time show the same part of it, on all hosts.

const HEIGHT = 190, TALL = 270;
const WHOLE_UNITS = ["connections", "sockets", "number"]; // things of which there is no half
const data = JSON.parse(document.getElementById("data").textContent);
let [least, most] = data.across; // what is shown of time
let charts = [];

// --- data -----------------------------------------------------------------------------------------

// Times come as distances in ticks.
function undistance(distances) {
  let at = 0;
  return distances.map((distance) => (at += distance) * data.tick_s);
}

const table = (lines, kind) => lines.length === 0 ? [[...data.across]] :
  uPlot.join(lines.map(({ x, y }) => [kind === "latency" ? x : undistance(x), y]));

function readBars(bars) {
  return bars.map(({ label, colour, start, length, number }) =>
    ({ label, colour, number, start: undistance(start), length: length.map((ticks) => ticks * data.tick_s) }));
}

// --- drawing --------------------------------------------------------------------------------------

function shade(chart, phases) {
  const { ctx, bbox } = chart;
  ctx.save();
  for (const [name, begin, end] of phases) {
    if (name === "baseline") continue;
    const [left, right] = [begin, end].map((time) =>
      Math.min(Math.max(chart.valToPos(time, "x", true), bbox.left), bbox.left + bbox.width));
    ctx.globalAlpha = name === "drain" ? 0.35 : 1;
    ctx.fillStyle = style(name === "drain" ? "--grid" : "--flood");
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
  }
  ctx.restore();
}

function drawBars(chart, bars) {
  const { ctx, bbox } = chart;
  const thick = Math.min(Math.max(bbox.height / (chart.scales.y.max || 1) * 0.75, devicePixelRatio), 8 * devicePixelRatio);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const { colour, start, length, number } of bars) {
    ctx.fillStyle = style(`--${colour}`);
    for (let i = 0; i < start.length; i++) {
      const left = chart.valToPos(start[i], "x", true);
      const width = Math.max(chart.valToPos(start[i] + length[i], "x", true) - left, devicePixelRatio);
      ctx.fillRect(left, chart.valToPos(number[i] + 0.5, "y", true) - thick / 2, width, thick);
    }
  }
  ctx.restore();
}

// Each value is held until the next one, so it is that of the last point and not of the nearest.
function lastPoint(chart, series, nearest, moment) {
  const times = chart.data[0], values = chart.data[series];
  let at = nearest;
  while (at > 0 && (times[at] > moment || values[at] === undefined)) at--;
  return at;
}

const secondsText = (value) => value === null ? "–" : value === 0 ? "0 s" : value >= 1 ? `${+value.toPrecision(4)} s` :
  value >= 1e-3 ? `${+(value * 1e3).toPrecision(4)} ms` : `${+(value * 1e6).toPrecision(4)} µs`;

const width = (figure) => Math.max(240, figure.clientWidth - 20);

function build(figure) {
  const host = data.hosts[figure.dataset.host];
  const { kind, unit, across, lines, bars: raw, highest, tall } = host.figures[figure.dataset.figure];
  const bars = readBars(raw);
  const latency = kind === "latency";
  const place = document.createElement("div");
  place.className = "chart";
  figure.querySelector(".drawing").after(place);
  const narrow = width(figure) < 600;
  const options = chartOptions({
    width: width(figure), height: tall ? TALL : HEIGHT,
    lines: [
      ...lines.map(({ label, colour, dashed }) => ({ label, colour: `--${colour}`, dash: dashed ? [6, 4] : undefined, step: true })),
      ...bars.map(({ label, colour }) => ({ label, colour: `--${colour}` })),
    ],
    across: latency ? { axis: { splits: () => across.ticks, filter: (_, splits) => splits, values: (_, values) => values.map(secondsText) }, label: "within", value: (_, value) => secondsText(value) }
      : { axis: { values: (_, values) => values.map((one) => `${+one.toFixed(6)} s`), space: narrow ? 50 : 80 }, label: "time", value: (chart, value) => value === null ? "–" : `${chart.posToVal(chart.cursor.left, "x").toFixed(3)} s` },
    up: { size: narrow ? 40 : 52, ...(WHOLE_UNITS.includes(unit) ? { incrs: WHOLE } : {}) },
  });
  const table_ = table(lines, kind);
  const chart = new uPlot({
    ...options,
    cursor: latency ? { drag: { x: false, y: false } } : { ...options.cursor, dataIdx: lastPoint },
    // Bars have no value under the cursor.
    legend: { live: !bars.length, markers: { dash: (_, i) => i && options.series[i].dash ? "dashed" : "solid" } },
    scales: {
      x: latency ? { time: false, distr: across.logarithmic ? 3 : 1, range: () => [across.low, across.high] } : { time: false },
      y: { range: () => [0, (latency ? 100 : highest || 1) * 1.08] },
    },
    hooks: {
      drawClear: [(one) => !latency && shade(one, host.phases)],
      draw: [(one) => bars.length && drawBars(one, bars)],
      setScale: [(one, key) => key === "x" && !latency && follow(one)],
      setCursor: [(one) => !latency && point(one)],
    },
  }, [...table_, ...bars.map(() => table_[0].map(() => null))], place);
  charts.push({ chart, figure, latency });
  if (!latency) listen(chart);
  if (!latency) chart.setScale("x", { min: least, max: most });
  figure.classList.add("drawn");
}

// --- one part of time for all ---------------------------------------------------------------------

function show(low, high) {
  const [first, last] = data.across;
  const wide = Math.min(Math.max(high - low, 1e-4), last - first);
  least = Math.min(Math.max(low, first), last - wide);
  most = least + wide;
  for (const { chart, latency } of charts) {
    if (!latency && (chart.scales.x.min !== least || chart.scales.x.max !== most)) chart.setScale("x", { min: least, max: most });
  }
}

function follow(chart) {
  const { min, max } = chart.scales.x;
  if (min === least && max === most || !charts.some((one) => one.chart === chart)) return;
  // A double click asks for all that this chart has; that is not the same for each.
  const own = chart.data[0];
  if (min === own[0] && max === own[own.length - 1]) show(...data.across);
  else show(min, max);
}

function zoom(how, host) {
  const wide = most - least, middle = (most + least) / 2;
  const flood = data.hosts[host].phases.find(([name]) => name === "flood");
  const ways = {
    whole: () => data.across,
    flood: () => flood ? [flood[1] - (flood[2] - flood[1]) * 0.05, flood[2] + (flood[2] - flood[1]) * 0.05] : data.across,
    in: () => [middle - wide / 4, middle + wide / 4],
    out: () => [middle - wide, middle + wide],
    left: () => [least - wide / 2, most - wide / 2],
    right: () => [least + wide / 2, most + wide / 2],
  };
  show(...ways[how]());
}

// --- the diagram ----------------------------------------------------------------------------------

let pointed = null, chosen = null; // moments: under the pointer, and kept; otherwise each host shows its own
let inside = false, drawing = null;

function unfold(host, number) {
  const { x, y } = Array.isArray(number) ? host.figures[number[0]].lines[number[1]] : number;
  return { times: undistance(x), y };
}

// The last value that was read, and the least and the greatest in the time before; NaN where one was not read.
function readAt({ times, y }, moment, settled) {
  let after = 0, end = times.length;
  while (after < end) {
    const middle = (after + end) >> 1;
    if (times[middle] <= moment) after = middle + 1;
    else end = middle;
  }
  if (after === 0 || moment > times[times.length - 1]) return { value: null, low: NaN, high: NaN };
  let first = after - 1;
  while (first > 0 && times[first] > moment - settled + data.tick_s / 2) first--;
  const values = y.slice(first, after).map((value) => value ?? NaN);
  return { value: y[after - 1], low: Math.min(...values), high: Math.max(...values) };
}

// Whether Active is Q + A + 1, as far as readings that are not of one moment can tell.
function sign(active, { low, high }) {
  if (active.high < low || high < active.low) return "≠";
  return active.low === active.high && low === high && active.low === low ? "=" : "…";
}

function showMoment(place) {
  const host = data.hosts[place.dataset.host], { at, settled_s: settled, numbers } = host.diagram;
  host.unfolded ??= Object.entries(numbers).map(([name, number]) => [name, unfold(host, number)]);
  const moment = pointed ?? chosen ?? at * data.tick_s;
  const read = Object.fromEntries(host.unfolded.map(([name, number]) => [name, readAt(number, moment, settled)]));
  const values = Object.fromEntries(Object.entries(read).map(([name, { value }]) => [name, value]));
  const { queue, accepted } = read, { in_front: sum, front } = values;
  values.clients = sum === null ? null : sum - 1;
  // A busy client learns later than the kernel that it is connected.
  values.held = sum === null || front === null || front > values.clients ? null : values.clients - front;
  const signs = {
    study: values.held === null ? "…" : sign(read.active, read.in_front),
    upstream: sign(read.active, { low: queue.low + accepted.low + 1, high: queue.high + accepted.high + 1 }),
  };

  place.querySelector("[data-moment]").textContent = `${moment.toFixed(3)} s`;
  const when = place.querySelector("[data-when]");
  when.textContent = pointed === null && chosen === null ? `, ${when.dataset.when}` : "";
  place.querySelectorAll("[data-number]").forEach((one) => {
    const value = values[one.dataset.number];
    one.textContent = value === null ? one.dataset.missing : value.toLocaleString("en");
    one.classList.toggle("missing", value === null);
  });
  place.querySelectorAll("[data-sign]").forEach((one) => (one.textContent = signs[one.dataset.sign]));
  place.querySelectorAll("[data-queue]").forEach((one) => {
    const [depth, limit] = one.dataset.queue.split(" ").map((name) => values[name]);
    one.style.setProperty("--share", depth === null || limit === null ? 0 : Math.min(depth / (limit + 1), 1));
  });
  const slider = place.querySelector("input");
  slider.value = moment;
  slider.setAttribute("aria-valuetext", `${moment.toFixed(3)} s`);
}

// The moment that is kept has the cursor while the pointer is elsewhere.
function showMoments() {
  drawing = null;
  document.querySelectorAll(".diagram").forEach(showMoment);
  if (pointed !== null) return;
  charts.filter(({ latency }) => !latency).forEach(({ chart }) =>
    chart.setCursor({ left: chosen === null ? -10 : chart.valToPos(chosen, "x"), top: -10 }, false));
}

const showSoon = () => (drawing ??= requestAnimationFrame(showMoments));

// A cursor also moves when somebody zooms, and one may mark the moment that is kept.
function point(chart) {
  const { left } = chart.cursor, before = pointed;
  pointed = inside && left >= 0 ? chart.posToVal(left, "x") : null;
  if (pointed !== before || chosen !== null) showSoon();
}

function listen(chart) {
  chart.over.addEventListener("mouseenter", () => { inside = true; });
  chart.over.addEventListener("mouseleave", () => { inside = false; });
  chart.over.addEventListener("click", () => choose(chart.posToVal(chart.cursor.left, "x")));
}

function choose(moment) {
  chosen = moment;
  showSoon();
}

// --- the page -------------------------------------------------------------------------------------

function drawAll() {
  charts.forEach(({ chart }) => { chart.root.parentNode.remove(); chart.destroy(); });
  charts = [];
  document.querySelectorAll("figure[data-figure]").forEach((figure) => figure.querySelector(".drawing") && build(figure));
}

document.documentElement.classList.add("scripted");
document.querySelectorAll(".zoom").forEach((bar) => {
  bar.hidden = false;
  bar.addEventListener("click", (event) => event.target.dataset.zoom && zoom(event.target.dataset.zoom, bar.dataset.host));
});
document.querySelectorAll(".diagram").forEach((place) => {
  const [seek, slider] = [".seek", "input"].map((part) => place.querySelector(part));
  seek.hidden = false;
  [slider.min, slider.max] = data.across;
  slider.value = data.hosts[place.dataset.host].diagram.at * data.tick_s;
  slider.addEventListener("input", () => choose(+slider.value));
  seek.querySelector("button").addEventListener("click", () => choose(null));
});
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("resize", () => charts.forEach(({ chart, figure }) => chart.setSize({ width: width(figure), height: chart.height })));
performance.mark("drawn");
