// What a mark of the roofline stands for, under the pointer or where the arrow keys go. It is read from the drawing; nothing is fetched.
(() => {
  "use strict";
  const HINT = "Point at a mark for its row, or go from mark to mark with ← and →.";
  document.querySelectorAll(".roofline svg").forEach(svg => {
    const centre = mark => {
      const { x, y, width, height } = mark.lastElementChild.getBBox();
      return [x + width / 2, y + height / 2];
    };
    const marks = [...svg.querySelectorAll("g")].map(mark => {
      const title = mark.querySelector("title"), text = title.textContent;
      title.remove(); // the line below the drawing says it at once
      return { mark, text, at: centre(mark) };
    }).sort((a, b) => a.at[0] - b.at[0] || a.at[1] - b.at[1]);
    if (!marks.length) return;
    const said = Object.assign(document.createElement("p"), { className: "values", textContent: HINT });
    svg.parentElement.after(said);
    let current = 0;
    const hide = () => {
      marks.forEach(({ mark }) => mark.classList.remove("now"));
      said.textContent = HINT;
    };
    const show = to => {
      hide();
      current = Math.min(Math.max(to, 0), marks.length - 1);
      const { mark, text } = marks[current], [name, ...rest] = text.split(": ");
      mark.classList.add("now");
      said.replaceChildren(Object.assign(document.createElement("b"), { textContent: name }), rest.join(": "));
      svg.setAttribute("aria-valuenow", current);
      svg.setAttribute("aria-valuetext", text);
    };
    for (const [key, value] of Object.entries({ role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": marks.length - 1 })) svg.setAttribute(key, value);
    svg.setAttribute("aria-valuenow", current);
    svg.setAttribute("aria-valuetext", HINT);
    svg.addEventListener("pointermove", event => {
      const place = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / place.width;
      const x = (event.clientX - place.left) * scale, y = (event.clientY - place.top) * scale;
      const far = ({ at }) => Math.hypot(at[0] - x, at[1] - y);
      const nearest = marks.reduce((best, mark, i) => far(mark) < far(marks[best]) ? i : best, 0);
      if (far(marks[nearest]) < 24) show(nearest); else if (document.activeElement !== svg) hide();
    });
    svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) hide(); });
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) show(current); });
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", event => {
      const to = {
        ArrowRight: current + 1, ArrowUp: current + 1, ArrowLeft: current - 1, ArrowDown: current - 1,
        PageUp: current + 10, PageDown: current - 10, Home: 0, End: marks.length - 1,
      }[event.key];
      if (event.key === "Escape") hide();
      if (to === undefined) return;
      event.preventDefault();
      show(to);
    });
  });
})();
