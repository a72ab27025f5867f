"use strict";

// What the accept queue does, four times a second. The server says what it has seen since the last time; lines break
// where nothing was seen.

const PERIOD_MS = 500;
const RATE_S = 1; // answers per second are counted over the last second
const CHARTS = [
  { title: "accept queue (connections; its deepest between two looks)", height: 220, lines: [
    { label: "deepest", column: "most_conns", colour: "--queue", fill: true, step: true },
    { label: "limit", column: "limit_conns", colour: "--limit", dash: [6, 4], step: true }] },
  { title: "sockets on the path, by state in /proc/net/unix", lines: [
    { label: "01 unconnected", column: "unconnected_socks", colour: "--state-01", step: true },
    { label: "02 connecting", column: "connecting_socks", colour: "--state-02", step: true },
    { label: "03 connected", column: "connected_socks", colour: "--state-03", step: true }] },
  { title: "Active of stub_status, and Q + A + 1 (connections)", lines: [
    { label: "Active", column: "active_conns", colour: "--active", step: true },
    { label: "Q + A + 1", column: "expected_conns", colour: "--expected", dash: [4, 3], step: true }] },
  { title: "nginx's answers (per second)", lines: [
    { label: "200", column: "rate_200", colour: "--status-200" },
    { label: "502", column: "rate_502", colour: "--status-502" },
    { label: "504", column: "rate_504", colour: "--status-504" },
    { label: "500", column: "rate_500", colour: "--status-500" },
    { label: "other", column: "rate_other", colour: "--status-other" }] },
  { title: "nginx's workers, resident memory (MB)", lines: [
    { label: "workers", column: "worker_mb", colour: "--memory" }] },
];

const clock = (time_s) => new Date(time_s * 1000).toLocaleTimeString("en-GB");
const element = (id) => document.getElementById(id);
let samples = []; // objects, oldest first
let marks = [];
let charts = [];
let theme = "";
let held = ""; // the run that is held up

// --- what is known --------------------------------------------------------------------------------

function take(told) {
  for (const row of told.samples) {
    const sample = Object.fromEntries(told.columns.map((name, i) => [name, row[i]]));
    const { depth_conns: queued, accepted_conns: accepted } = sample;
    sample.expected_conns = queued === null || accepted === null ? null : queued + accepted + 1;
    sample.worker_mb = sample.worker_rss_bytes === null ? null : sample.worker_rss_bytes / 1e6;
    for (const status of ["200", "500", "502", "504", "other"]) sample["rate_" + status] = rate("status_" + status, sample);
    samples.push(sample);
  }
  const oldest = Date.now() / 1000 - 3700;
  if (samples.length && samples[0].time_s < oldest) samples = samples.filter((sample) => sample.time_s >= oldest);
  marks = told.marks;
}

function rate(column, sample) {
  if (sample[column] === null) return null;
  for (let i = samples.length - 1; i >= 0; i--) {
    const before = samples[i];
    if (before[column] === null) return null;
    const seconds = sample.time_s - before.time_s;
    if (seconds >= RATE_S * 0.9) return Math.max(0, (sample[column] - before[column]) / seconds);
  }
  return null;
}

// --- the charts -----------------------------------------------------------------------------------

function floods(from, to) {
  return marks.flatMap(([begin, what], i) => {
    const end = i + 1 < marks.length ? marks[i + 1][0] : to;
    return what.startsWith("flood") && end > from ? [[Math.max(begin, from), end]] : [];
  });
}

function shade(chart) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.fillStyle = style("--flood");
  for (const [begin, end] of floods(chart.scales.x.min, chart.scales.x.max)) {
    const left = chart.valToPos(begin, "x", true);
    const right = Math.min(chart.valToPos(end, "x", true), bbox.left + bbox.width);
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
  }
  ctx.restore();
}

function drawMarks(chart, named) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = style("--faint");
  ctx.setLineDash([2, 3]);
  ctx.textBaseline = "top";
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  let free = [-Infinity, -Infinity]; // where the text of each of two lines ends
  for (const [time, what] of marks) {
    const x = chart.valToPos(time, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    if (!named || what === "no flood") continue;
    const width = ctx.measureText(what).width + 8 * devicePixelRatio;
    const left = x + width > bbox.left + bbox.width; // of its line, where it has no room to the right
    const begin = left ? x - width : x;
    const line = free.findIndex((end) => end < begin);
    if (line < 0) continue;
    ctx.textAlign = left ? "right" : "left";
    ctx.fillText(what, x + (left ? -4 : 4) * devicePixelRatio, bbox.top + (6 + 13 * line) * devicePixelRatio);
    free[line] = begin + width;
  }
  ctx.restore();
}

function build() {
  charts.forEach((chart) => chart.plot.destroy());
  element("charts").replaceChildren();
  charts = CHARTS.map(({ title, lines, height = 170 }, i) => {
    const section = document.createElement("section");
    section.innerHTML = "<h2></h2><div></div>";
    section.firstChild.textContent = title;
    element("charts").append(section);
    const plot = new uPlot({
      ...chartOptions({
        width: Math.max(240, section.clientWidth - 16), height, lines,
        across: { axis: { values: (_, times) => times.map(clock) }, label: "time", value: (_, time) => time === null ? "–" : clock(time) },
        up: { incrs: WHOLE },
      }),
      scales: { y: { range: (_, least, most) => [0, Math.max(1, most ?? 1) * (i ? 1.1 : 1.3)] } },
      hooks: { drawClear: [shade], draw: [(chart) => drawMarks(chart, i === 0)] },
    }, [[], ...lines.map(() => [])], section.lastChild);
    return { plot, lines, section };
  });
}

function draw() {
  const to = Date.now() / 1000;
  const begun = marks.length ? marks[0][0] - 5 : to;
  const from = Math.max(to - Number(element("window").value), Math.min(begun, to - 30));
  const shown = samples.filter((sample) => sample.time_s >= from);
  const times = shown.map((sample) => sample.time_s);
  for (const { plot, lines } of charts) {
    plot.batch(() => {
      plot.setData([times, ...lines.map(({ column }) => shown.map((sample) => sample[column]))], false);
      plot.setScale("x", { min: from, max: to });
    });
  }
}

// --- the figures ----------------------------------------------------------------------------------

const text = (value, digits = 0) => value === null || value === undefined ? "–" : value.toFixed(digits);

function show(told) {
  const { hold, state } = told;
  // The form around this page has the values of the case that it was loaded with.
  if (frameElement && held && hold && hold.run_id !== held) parent.location.reload();
  held = hold ? hold.run_id : "";
  const now = samples.length ? samples[samples.length - 1] : {};
  if (hold) {
    element("title").textContent = `Case ${hold.case}: ${hold.title}`;
    element("where").textContent = `${hold.host}, ${hold.transport}, somaxconn ${hold.somaxconn}, ${hold.target}`;
  }
  const full = now.most_conns > now.limit_conns;
  element("depth").textContent = `${text(now.most_conns)} / ${text(now.limit_conns)}${full ? " full" : ""}`;
  element("depth").className = full ? "full" : "";
  element("states").textContent =
    [now.unconnected_socks, now.connecting_socks, now.connected_socks].map((one) => text(one)).join(" / ");
  // After nginx has given up, a dead connection stays in the queue, and the two part.
  const sign = now.active_conns === now.expected_conns ? "=" : "≠";
  element("active").textContent = `${text(now.active_conns)} ${sign} ${text(now.depth_conns)} + ${text(now.accepted_conns)} + 1`;
  element("rate502").textContent = text(now.rate_502, 1);
  element("rate504").textContent = text(now.rate_504, 1);
  element("memory").textContent = text(now.worker_mb, 1);
  element("flood").textContent = told.phase;
  const busy = { applying: "A case is being applied to the host …", restoring: "The host is being restored …" }[state];
  const message = told.failure || busy || "";
  element("message").textContent = message;
  element("message").hidden = !message;
  element("switch").querySelector("button").disabled = Boolean(busy);
  fillCases(told);
}

function fillCases({ cases, hold }) {
  const select = element("case");
  if (select.options.length) return;
  for (const [number, title] of Object.entries(cases)) select.add(new Option(`${number}: ${title}`, number));
  if (hold) select.value = hold.case;
}

// --- the loop -------------------------------------------------------------------------------------

async function look() {
  const after = samples.length ? samples[samples.length - 1].time_s : 0;
  try {
    const answer = await fetch(`samples?after=${after}`);
    if (answer.redirected) location.assign("/login");
    const told = await answer.json();
    take(told);
    show(told);
  } catch (error) {
    element("message").textContent = "The page's server does not answer: it was ended, or the way to it is broken.";
    element("message").hidden = false;
  }
  const wanted = document.documentElement.dataset.theme || String(matchMedia("(prefers-color-scheme: dark)").matches);
  if (wanted !== theme) {
    theme = wanted;
    build();
  }
  draw();
  setTimeout(look, PERIOD_MS);
}

element("switch").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("case", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ case: element("case").value }),
  });
  if (!answer.ok) alert((await answer.json()).message);
});
if (frameElement) {
  const fit = () => { frameElement.style.height = `${document.body.scrollHeight + 2}px`; };
  new ResizeObserver(fit).observe(document.body);
}
addEventListener("resize", () => charts.forEach(({ plot, section }) =>
  plot.setSize({ width: Math.max(240, section.clientWidth - 16), height: plot.height })));
look();
