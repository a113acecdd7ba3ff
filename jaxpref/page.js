"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const MANY = 20; // a training line with fewer points is not smoothed
  const source = document.getElementById("data");
  const charts = source ? JSON.parse(source.textContent) : [];
  const smoothing = { on: true, weight: 0.8 };
  const redraws = [];

  function make(parent, tag, attributes, text) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  function show(x) {
    const size = Math.abs(x);
    let text;
    if (size === 0) text = "0";
    else if (size >= 1e9) text = +(x / 1e9).toPrecision(4) + "G";
    else if (size >= 1e6) text = +(x / 1e6).toPrecision(4) + "M";
    else if (size >= 1e4) text = +(x / 1e3).toPrecision(4) + "k";
    else if (size < 1e-3) text = (+x.toPrecision(3)).toExponential();
    else text = String(+x.toPrecision(4));
    return text.replace(/-/g, "\u2212");
  }

  function ticks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
      found.push(+(i * step).toPrecision(12));
    }
    return found;
  }

  // Exponential moving average divided by its weight so far, so that it starts unbiased.
  function smooth(points) {
    let sum = 0, total = 0;
    const w = smoothing.weight;
    return points.map(([x, y]) => {
      if (y === null) return [x, y];
      sum = w * sum + (1 - w) * y;
      total = w * total + (1 - w);
      return [x, sum / total];
    });
  }

  const smoothed = (chart, line) =>
    smoothing.on && !chart.exact && !line.evaluation && line.points.length >= MANY;

  function path(points, x, y) {
    let pen = "M", out = "";
    for (const [a, b] of points) {
      if (b === null) { pen = "M"; continue; }
      out += pen + x(a).toFixed(1) + " " + y(b).toFixed(1);
      pen = "L";
    }
    return out;
  }

  function spread(chart) {
    const values = chart.series.flatMap((s) => s.points.map((p) => p[1])).filter((v) => v !== null);
    if (chart.reference) values.push(chart.reference[0]);
    let low = Infinity, high = -Infinity;
    for (const v of values) { low = Math.min(low, v); high = Math.max(high, v); }
    const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    return [low - pad, high + pad];
  }

  function draw(figure, chart) {
    figure.querySelector("svg")?.remove();
    const width = Math.max(Math.round(figure.clientWidth), 240), height = 216;
    const names = chart.series.map((s) => s.label);
    const longest = Math.max(...names.map((n) => n.length));
    const wide = names.length > 1 && longest * 7.6 < width * 0.34;
    const [low, high] = spread(chart);
    const levels = ticks(low, high, 5);
    const left = Math.max(...levels.map((v) => show(v).length)) * 7 + 10;
    const box = { left, right: width - (wide ? longest * 7.6 + 12 : 10), top: 8, bottom: height - 26 };
    const [from, to] = chart.range;
    const x = (v) => box.left + ((v - from) / (to - from || 1)) * (box.right - box.left);
    const y = (v) => box.bottom - ((v - low) / (high - low)) * (box.bottom - box.top);
    const svg = make(figure, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0 });
    svg.setAttribute("aria-label", describe(chart));
    axes(svg, box, x, y, levels, ticks(from, to || 1, Math.min(6, width / 90)), chart.reference);
    const curves = chart.series.map((line) => {
      const colour = "c" + (line.colour % 6);
      const points = smoothed(chart, line) ? smooth(line.points) : line.points;
      if (points !== line.points) make(svg, "path", { class: "faint " + colour, d: path(line.points, x, y) });
      const dashed = line.evaluation ? " dashed" : "";
      make(svg, "path", { class: `line ${colour}${dashed}`, d: path(points, x, y) });
      if (points.length === 1 || (line.evaluation && points.length <= 30)) {
        for (const [a, b] of points) if (b !== null) make(svg, "circle", { class: "dot " + colour, cx: x(a), cy: y(b), r: 3 });
      }
      return { line, points, colour };
    });
    if (wide) endLabels(svg, curves, box, y);
    follow(figure, svg, curves, box, x, y, from, to);
  }

  function describe(chart) {
    const parts = chart.series.map((s) => {
      const values = s.points.filter((p) => p[1] !== null);
      if (!values.length) return `${s.label} without numbers`;
      return `${s.label} from ${show(values[0][1])} to ${show(values[values.length - 1][1])}`;
    });
    return `${chart.title}: ${parts.join(", ")}. Arrow keys read single steps.`;
  }

  function axes(svg, box, x, y, levels, steps, reference) {
    for (const v of levels) {
      make(svg, "line", { class: "grid", x1: box.left, x2: box.right, y1: y(v), y2: y(v) });
      make(svg, "text", { x: box.left - 8, y: y(v) + 4, "text-anchor": "end" }, show(v));
    }
    make(svg, "line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom });
    for (const v of steps) {
      make(svg, "line", { class: "axis", x1: x(v), x2: x(v), y1: box.bottom, y2: box.bottom + 4 });
      make(svg, "text", { x: x(v), y: box.bottom + 18, "text-anchor": "middle" }, show(v));
    }
    make(svg, "text", { x: box.left - 8, y: box.bottom + 18, "text-anchor": "end" }, "step");
    if (!reference) return;
    const level = y(reference[0]);
    make(svg, "line", { class: "reference", x1: box.left, x2: box.right, y1: level, y2: level });
    make(svg, "text", { x: box.right - 4, y: level - 5, "text-anchor": "end" }, reference[1]);
  }

  function endLabels(svg, curves, box, y) {
    const ends = curves
      .map((c) => ({ c, at: c.points.filter((p) => p[1] !== null).pop() }))
      .filter((e) => e.at)
      .map((e) => ({ ...e, y: y(e.at[1]) + 4 }))
      .sort((a, b) => a.y - b.y);
    ends.forEach((e, i) => { if (i) e.y = Math.max(e.y, ends[i - 1].y + 14); });
    let floor = box.bottom + 4;
    for (const e of [...ends].reverse()) { e.y = Math.min(e.y, floor); floor = e.y - 14; }
    for (const e of ends) make(svg, "text", { class: "name " + e.c.colour, x: box.right + 8, y: e.y }, e.c.line.label);
  }

  function nearest(points, step) {
    let best = null;
    for (const p of points) {
      if (p[1] !== null && (!best || Math.abs(p[0] - step) < Math.abs(best[0] - step))) best = p;
    }
    return best;
  }

  function follow(figure, svg, curves, box, x, y, from, to) {
    const mark = make(svg, "g", {});
    const stops = [...new Set(curves.flatMap((c) => c.points.map((p) => p[0])))].sort((a, b) => a - b);
    let place = null;
    function at(step) {
      mark.replaceChildren();
      const readout = figure.querySelector(".readout");
      readout.replaceChildren();
      const anchor = step === null ? to : stops.reduce((a, b) => (Math.abs(b - step) < Math.abs(a - step) ? b : a));
      place = step === null ? null : anchor;
      const when = document.createElement("span");
      const kind = curves.some((c) => c.points !== c.line.points) ? ", smoothed" : "";
      when.textContent = (step === null ? "last" : "step " + show(anchor)) + kind;
      readout.append(when);
      if (step !== null) make(mark, "line", { class: "guide", x1: x(anchor), x2: x(anchor), y1: box.top, y2: box.bottom });
      for (const { line, points, colour } of curves) {
        const p = nearest(points, anchor);
        if (!p) continue;
        if (step !== null) make(mark, "circle", { class: "spot " + colour, cx: x(p[0]), cy: y(p[1]), r: 4 });
        readout.append(entry(line, colour, p, step !== null && p[0] !== anchor));
      }
    }
    function entry(line, colour, p, elsewhere) {
      const item = document.createElement("span");
      const key = document.createElement("span");
      key.className = `key ${colour}${line.evaluation ? " dashed" : ""}`;
      const value = document.createElement("b");
      value.textContent = show(p[1]) + (elsewhere ? ` (at ${show(p[0])})` : "");
      item.append(key, line.label ? line.label + " " : "", value);
      return item;
    }
    const pointed = (event) => {
      const scale = svg.viewBox.baseVal.width / svg.getBoundingClientRect().width;
      const inside = (event.clientX - svg.getBoundingClientRect().left) * scale;
      at(from + ((inside - box.left) / (box.right - box.left)) * (to - from));
    };
    svg.addEventListener("pointermove", pointed);
    svg.addEventListener("pointerdown", pointed);
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") at(null); });
    svg.addEventListener("blur", () => at(null));
    svg.addEventListener("keydown", (event) => {
      const index = place === null ? stops.length : stops.indexOf(place);
      const go = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: stops.length - 1 }[event.key];
      if (event.key === "Escape") at(null);
      if (go === undefined) return;
      event.preventDefault();
      at(stops[Math.max(0, Math.min(stops.length - 1, go))]);
    });
    at(null);
  }

  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const chart = charts[+figure.dataset.chart];
    let width = 0;
    const redraw = () => draw(figure, chart);
    redraws.push(redraw);
    new ResizeObserver(() => {
      if (figure.clientWidth === width || matchMedia("print").matches) return;
      width = figure.clientWidth;
      redraw();
    }).observe(figure);
    width = figure.clientWidth;
    redraw();
  }

  function press(button) {
    for (const other of button.parentNode.children) other.setAttribute("aria-pressed", String(other === button));
  }
  const strength = document.getElementById("strength");
  for (const button of document.querySelectorAll("button[data-smooth]")) {
    button.addEventListener("click", () => {
      press(button);
      smoothing.on = button.dataset.smooth === "on";
      strength.disabled = !smoothing.on;
      redraws.forEach((redraw) => redraw());
    });
  }
  strength?.addEventListener("input", () => {
    smoothing.weight = +strength.value;
    redraws.forEach((redraw) => redraw());
  });
  for (const button of document.querySelectorAll("button[data-config]")) {
    button.addEventListener("click", () => {
      press(button);
      document.querySelector("table.config").classList.toggle("only", button.dataset.config === "only");
    });
  }
  for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;
  document.querySelector("table.config.may")?.classList.add("only");

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const item of opened) item.open = true;
  });
  addEventListener("afterprint", () => { for (const item of opened) item.open = false; });
})();
