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
      : { axis: { values: (_, values) => values.map((one) => `${+one.toFixed(6)} s`), space: narrow ? 50 : 80 }, label: "time", value: (_, value) => value === null ? "–" : `${value.toFixed(3)} s` },
    up: { size: narrow ? 40 : 52, ...(WHOLE_UNITS.includes(unit) ? { incrs: WHOLE } : {}) },
  });
  const table_ = table(lines, kind);
  const chart = new uPlot({
    ...options,
    ...(latency ? { cursor: { drag: { x: false, y: false } } } : {}),
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
    },
  }, [...table_, ...bars.map(() => table_[0].map(() => null))], place);
  charts.push({ chart, figure, latency });
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
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("resize", () => charts.forEach(({ chart, figure }) => chart.setSize({ width: width(figure), height: chart.height })));
performance.mark("drawn");
