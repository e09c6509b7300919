// Sorts the rows of a table by the column whose heading is pressed: up, down, and as they were.
(() => {
  "use strict";
  // What a cell says of itself, else the number that it begins with, else its words. What is not there comes last.
  const value = cell => {
    if (!cell) return null;
    if (cell.dataset.value) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    if (text === "" || text === "–" || text === "·") return null;
    const plain = text.replace(/,(?=\d{3})/g, "").replace("−", "-");
    return /^[-+]?[\d.]/.test(plain) ? parseFloat(plain) : text;
  };
  const compare = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
    return typeof a === "number" ? -1 : 1;
  };
  document.querySelectorAll("table.sortable").forEach(table => {
    const body = table.tBodies[0], rows = [...body.rows], headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      if (!heading.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const to = { none: "descending", descending: "ascending", ascending: "none" }[heading.getAttribute("aria-sort") || "none"];
        headings.forEach(other => other.removeAttribute("aria-sort"));
        if (to !== "none") heading.setAttribute("aria-sort", to);
        const sign = to === "ascending" ? 1 : -1, by = new Map(rows.map(row => [row, value(row.cells[column])]));
        const sorted = to === "none" ? rows : [...rows].sort((a, b) => {
          const [x, y] = [by.get(a), by.get(b)];
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * compare(x, y);
        });
        body.append(...sorted);
      });
    });
  });
})();
