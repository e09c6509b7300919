// Marks the section that is being read in the table of contents.
(() => {
  "use strict";
  const links = new Map([...document.querySelectorAll("nav a")].map(link => [link.hash.slice(1), link]));
  const headings = [...document.querySelectorAll("h2[id]")];
  const mark = () => {
    // The last heading above the upper third of the window; at the end of the page the last one.
    const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const above = headings.filter(heading => end || heading.getBoundingClientRect().top < innerHeight / 3);
    const current = (above[above.length - 1] || headings[0]).id;
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    }
  };
  if (!headings.length) return;
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  };
  addEventListener("scroll", soon, { passive: true });
  addEventListener("resize", soon);
  mark();
})();
