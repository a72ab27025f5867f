"use strict";

// What all charts have in common: colours of the style sheet, axes, lines, a cursor that moves in all of them.

const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000];

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Options of a chart; lines are {label, colour, dash, fill, step}, across are options of the horizontal axis.
function chartOptions({ width, height, lines, across, up = {} }) {
  const axis = { stroke: style("--faint"), grid: { stroke: style("--grid"), width: 1 }, ticks: { show: false } };
  return {
    width, height,
    cursor: { sync: { key: "floodmark" }, drag: { x: true, y: false } },
    axes: [{ ...axis, size: 30, space: 80, ...across.axis }, { ...axis, size: 52, ...up }],
    series: [{ label: across.label, value: across.value }, ...lines.map(({ label, colour, dash, fill, step }) => ({
      label, stroke: style(colour), width: 1.6, dash, points: { show: false },
      fill: fill ? style(colour) + "26" : undefined,
      paths: step ? uPlot.paths.stepped({ align: 1 }) : undefined,
      value: (_, value) => value === null || value === undefined ? "–" : +value.toFixed(1),
    }))],
  };
}
