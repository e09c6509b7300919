// The page: finds the GPU, and lets one of its three parts use it at a time.

import * as bench from "./bench.js";
import * as contract from "./contract.js";
import { Describe } from "./describe.js";
import * as golden from "./golden.js";
import { Gpu } from "./gpu.js";

// Cases of the self-test that are prepared while one runs.
const AHEAD = 8;

// The part of something long after which what is left can be told from what it took.
const LEARNT = 0.1;

const $ = (id) => document.getElementById(id);

// Shows what went wrong, or clears it.
function trouble(error) {
  $("trouble").textContent = error ? error.message : "";
  $("trouble").hidden = !error;
  if (error) console.info(error); // for people who look for the place in the code
}

// What the program put beside this page: { version, model, example }. A plain static server of the sources has none.
async function readSite() {
  const answer = await fetch("site.json").catch(() => null);
  return answer?.ok ? answer.json() : {};
}

// One thing at a time: `alone(work)` gives what work gives, when its turn has come.
let last = Promise.resolve();
function alone(work) {
  const turn = last.then(work);
  last = turn.catch(() => {});
  return turn;
}

// About so long, in words.
const duration = (ms) => (ms < 90_000 ? `about ${Math.ceil(ms / 5000) * 5} s` : `about ${Math.round(ms / 60_000)} min`);

// A button that runs something long, with a bar and a line that says how far it is.
function long(name, work) {
  const [button, bar, status] = [$(`start-${name}`), $(`${name}-progress`), $(`${name}-status`)];
  let began;
  const tell = (done, of, what) => {
    [bar.max, bar.value] = [of, done];
    if (done === 0) began = performance.now();
    const left = done < LEARNT * of ? "" : `; ${duration(((performance.now() - began) / done) * (of - done))} left`;
    status.textContent = `${done + 1} of ${of}: ${what}${left}`;
  };
  button.disabled = false;
  button.addEventListener("click", async () => {
    trouble(null);
    [button.disabled, bar.hidden, status.textContent] = [true, false, "Waiting for the GPU …"];
    bar.removeAttribute("value");
    try {
      status.textContent = await alone(() => work(tell));
    } catch (error) {
      status.textContent = "It stopped before the end.";
      trouble(error);
    }
    [button.disabled, bar.hidden] = [false, true];
  });
}

// A table: the header, then rows of texts; the first column names the row, `words` columns hold no numbers.
function table(caption, header, rows, words = []) {
  const element = (name, ...children) => {
    const made = document.createElement(name);
    made.append(...children);
    return made;
  };
  const cell = (name) => (text, i) => {
    const made = element(i === 0 ? "th" : name, text);
    if (made.tagName === "TH") made.scope = name === "th" ? "col" : "row";
    if (words.includes(i)) made.className = "words";
    return made;
  };
  return element("table",
    element("caption", element("span", caption)),
    element("thead", element("tr", ...header.map(cell("th")))),
    element("tbody", ...rows.map((row) => element("tr", ...row.map(cell("td"))))));
}

async function selfTest(gpu, tell) {
  const cases = await golden.list();
  const [results, failures] = [new Map(), []];
  $("test-failures").hidden = $("test-results").hidden = true;
  const prepared = [];
  for (const [i, one] of cases.entries()) {
    tell(i, cases.length, `${one.op} ${one.case}, ${one.label}`);
    while (prepared.length < Math.min(i + AHEAD, cases.length)) prepared.push(golden.prepare(gpu, cases[prepared.length]));
    const { ok, error, worst = 0 } = await golden.replay(gpu, await prepared[i]);
    prepared[i] = null; // its numbers are not needed any more
    const of = results.get(one.op) ?? { cases: 0, passed: 0, worst: 0, entries: new Set() };
    results.set(one.op, of);
    of.cases += 1;
    of.passed += ok;
    of.worst = Math.max(of.worst, worst);
    one.entries.forEach((entry) => of.entries.add(entry));
    if (!ok) failures.push(`${one.op} ${one.case}, ${one.label}: ${error}`);
  }
  const names = (op, entries) => [...entries].map((entry) => entry.replace(`${op}.`, "")).join(", ");
  const rows = [...results].map(([op, { cases: all, passed, worst, entries }]) => [
    op, names(op, entries), `${passed} of ${all}`, `${(100 * worst).toFixed(0)} %`,
  ]);
  const header = ["operation", "entry points", "cases that pass", "largest error, of the allowance"];
  $("test-results").replaceChildren(table("Each operation with the entry points that its cases launch", header, rows, [1]));
  $("test-results").hidden = false;
  $("test-failures").replaceChildren(...failures.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  $("test-failures").hidden = failures.length === 0;
  const entries = new Set(cases.flatMap((one) => one.entries)).size;
  return failures.length === 0
    ? `All ${cases.length} cases pass: ${entries} entry points compute the right results on this GPU.`
    : `${failures.length} of ${cases.length} cases fail.`;
}

async function benchmark(gpu, version, tell) {
  const card = await bench.run(gpu, version, tell);
  const [text, json] = [bench.markdown(card), JSON.stringify(card, null, 2)];
  $("benchmark-results").replaceChildren(table("Forward, f32; the median of a call", bench.HEADER, card.rows.map(bench.cells), [1, 5]));
  $("card-text").value = text;
  $("card").hidden = false;
  $("copy-text").onclick = () => copy(text);
  $("copy-json").onclick = () => copy(json);
  $("save-json").onclick = () => {
    const href = URL.createObjectURL(new Blob([json], { type: "application/json" }));
    const link = Object.assign(document.createElement("a"), { href, download: "trimodal-card.json" });
    link.click();
    URL.revokeObjectURL(link.href);
  };
  $("share").hidden = !navigator.share;
  $("share").onclick = () => navigator.share({ title: "trimodal score card", text }).catch(() => {}); // whoever closes the dialog does not want to
  const { copy_bytes_per_second: bandwidth, f32_flops_per_second: speed } = card.ceilings;
  return `${card.device.name}: at best ${bench.digits(bandwidth / 1e9)} GB/s copied and ${bench.digits(speed / 1e9)} GFLOP/s in f32.`;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    $("benchmark-status").textContent = "Copied.";
  } catch {
    $("card-text").value = text;
    $("card-text").select();
    $("benchmark-status").textContent = "This browser does not let the page copy. Copy the text that is selected below.";
  }
}

const site = await readSite();
try {
  const gpu = await Gpu.open();
  await contract.load();
  $("gpu").textContent = `GPU: ${gpu.name}`;
  $("software").hidden = !gpu.isSoftware;
  gpu.trouble.catch(trouble);
  long("test", (tell) => selfTest(gpu, tell));
  long("benchmark", (tell) => benchmark(gpu, site.version ?? "", tell));
  await new Describe(gpu, site, alone, trouble).start();
} catch (error) {
  $("gpu").textContent = "Without WebGPU, nothing on this page can run.";
  trouble(error);
}
document.documentElement.dataset.ready = "true";
