// Numbers as people read them, and lines over time.

const NS = "http://www.w3.org/2000/svg";

export function bytes(count) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (count < 1024) return `${count.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
    count /= 1024;
  }
  return `${count.toFixed(1)} TiB`;
}

export function seconds(value) {
  return value < 1 ? `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(1)} s`;
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : null;
}

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

// Lines of samples by time, on one scale that begins at zero; `write` words the largest value.
export function plot(svg, samples, fields, write) {
  const [width, height, head] = [300, 90, 14];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren();
  if (samples.length < 2) return;
  const first = samples[0].time;
  const span = samples[samples.length - 1].time - first || 1;
  const top = Math.max(...samples.flatMap((one) => fields.map((field) => one[field])), 1e-9);
  fields.forEach((field, number) => {
    const line = document.createElementNS(NS, "polyline");
    const points = samples.map((one) => {
      const x = ((one.time - first) / span) * width;
      return `${x.toFixed(1)},${(height - 2 - (one[field] / top) * (height - head - 2)).toFixed(1)}`;
    });
    line.setAttribute("points", points.join(" "));
    line.setAttribute("class", number ? "two" : "one");
    svg.append(line);
  });
  const words = document.createElementNS(NS, "text");
  words.setAttribute("x", "2");
  words.setAttribute("y", "11");
  words.textContent = `most ${write(top)}`;
  svg.append(words);
}
