// The values of a chart's lines under the pointer, or where the arrow keys go. They are read from the drawing itself; nothing is fetched.
(() => {
  "use strict";
  const HINT = "Point at the chart for values, or go along it with ← and →.";
  const grouped = whole => String(whole).replace(/\B(?=(\d{3})+$)/g, ",");
  const number = value => {
    const size = Math.abs(value);
    if (size === 0 || !Number.isFinite(size)) return String(value);
    if (size >= 999.5) return grouped(Math.round(value));
    return size < 0.0009995 ? value.toExponential(3) : value.toPrecision(4);
  };
  // A drawing holds thousandths of a pixel: what is finer than that in values is not known.
  const axis = ({ values, pixels, logarithmic }) => {
    const finest = Math.abs((values[1] - values[0]) / (pixels[1] - pixels[0])) / 1000;
    const unit = 10 ** Math.max(Math.ceil(Math.log10(finest)), 0);
    return {
      value: at => {
        const share = (at - pixels[0]) / (pixels[1] - pixels[0]);
        return logarithmic ? values[0] * (values[1] / values[0]) ** share : values[0] + share * (values[1] - values[0]);
      },
      whole: value => grouped(Math.round(value / unit) * unit),
      pixels,
    };
  };
  const nearest = (sorted, to) => {
    let [low, high] = [0, sorted.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] < to) low = middle + 1; else high = middle;
    }
    return low > 0 && to - sorted[low - 1] <= sorted[low] - to ? low - 1 : low;
  };

  const start = svg => {
    const axes = JSON.parse(svg.dataset.axes), x = axis(axes.x), y = axis(axes.y);
    const lines = [...svg.querySelectorAll("[data-name]")].map(line => {
      const points = line.getAttribute("points").split(" ").filter(Boolean).map(pair => pair.split(",").map(Number));
      return { name: line.dataset.name, colour: line.getAttribute("stroke"), xs: points.map(p => p[0]), ys: points.map(p => p[1]) };
    }).filter(line => line.xs.length);
    if (!lines.length) return;
    const stops = [...new Set(lines.flatMap(line => line.xs))].sort((a, b) => a - b);
    const draw = (name, attributes) => {
      const shape = document.createElementNS(svg.namespaceURI, name);
      for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
      shape.setAttribute("visibility", "hidden");
      svg.append(shape);
      return shape;
    };
    const cross = draw("line", { y1: y.pixels[1], y2: y.pixels[0], stroke: "#222222", "stroke-dasharray": "3 3" });
    const dots = lines.map(line => draw("circle", { r: 4, fill: line.colour }));
    const said = document.createElement("p");
    said.className = "values";
    // Said once: it is true of all charts.
    const hint = svg === document.querySelector("svg[data-axes]") ? HINT : "\u00a0";
    said.textContent = hint;
    svg.after(said);
    let current = stops.length - 1;

    const hide = () => {
      [cross, ...dots].forEach(shape => shape.setAttribute("visibility", "hidden"));
      said.textContent = hint;
    };
    const at = px => axes.name === "step" ? x.whole(x.value(px)) : number(x.value(px));
    const show = to => {
      current = Math.min(Math.max(to, 0), stops.length - 1);
      const px = stops[current];
      cross.setAttribute("x1", px);
      cross.setAttribute("x2", px);
      cross.setAttribute("visibility", "visible");
      const where = axes.name + " " + at(px), values = [];
      said.replaceChildren(Object.assign(document.createElement("b"), { textContent: where }));
      lines.forEach((line, i) => {
        // A line that has ended, or has not begun, has no value here; of one with few points the nearest counts.
        const inside = px >= line.xs[0] - 0.5 && px <= line.xs[line.xs.length - 1] + 0.5, point = nearest(line.xs, px);
        dots[i].setAttribute("visibility", inside ? "visible" : "hidden");
        if (!inside) return;
        dots[i].setAttribute("cx", line.xs[point]);
        dots[i].setAttribute("cy", line.ys[point]);
        const value = y.value(line.ys[point]);
        let text = axes.unit === "%" ? value.toFixed(1) + "\u00a0%" : number(value);
        if (at(line.xs[point]) !== at(px)) text += " at " + at(line.xs[point]);
        const key = document.createElement("i");
        key.style.background = getComputedStyle(dots[i]).fill;
        const part = document.createElement("span");
        part.append(key, (line.name ? line.name + " " : "") + text);
        said.append(" ", part);
        values.push((line.name ? line.name + " " : "") + text);
      });
      svg.setAttribute("aria-valuenow", current);
      svg.setAttribute("aria-valuetext", where + ": " + values.join(", "));
    };

    // A slider passes arrow keys on, and a screen reader says its value at each of them.
    for (const [key, value] of Object.entries({ role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": stops.length - 1 })) svg.setAttribute(key, value);
    svg.setAttribute("aria-valuenow", current);
    svg.setAttribute("aria-valuetext", HINT);
    svg.addEventListener("pointermove", event => {
      const place = svg.getBoundingClientRect();
      show(nearest(stops, (event.clientX - place.left) / place.width * svg.viewBox.baseVal.width));
    });
    svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) hide(); });
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) show(current); });
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", event => {
      const far = Math.max(Math.round(stops.length / 10), 1), step = event.shiftKey ? far : 1;
      const to = {
        ArrowRight: current + step, ArrowUp: current + step, ArrowLeft: current - step, ArrowDown: current - step,
        PageUp: current + far, PageDown: current - far, Home: 0, End: stops.length - 1,
      }[event.key];
      if (event.key === "Escape") hide();
      if (to === undefined) return;
      event.preventDefault();
      show(to);
    });
  };
  document.querySelectorAll("svg[data-axes]").forEach(start);
})();
