// A model's folder: config.json, tokenizer.json, and model.safetensors or its shards with their index. From beside this page, or from
// what a person chose or dropped: such a folder, a run (whose latest checkpoint is taken), or the files.

const [CONFIG, TOKENIZER, SINGLE, INDEX] = ["config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"];

// The files that the weights are in: the one, or those that the index names.
async function weightsOf(has, text) {
  if (has(SINGLE)) return [SINGLE];
  const index = json(INDEX, await text(INDEX)).weight_map;
  if (index === null || typeof index !== "object") throw new Error(`${INDEX}: expected a weight_map`);
  const shards = [...new Set(Object.values(index))].sort();
  const missing = shards.find((name) => !has(name));
  if (missing) throw new Error(`${missing}: missing: ${INDEX} names it`);
  return shards;
}

function json(name, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${name}: not JSON: ${error.message}`);
  }
}

// Parsed, as Model takes it. `has(name)`: whether there is such a file; `file(name)`: something with text() and arrayBuffer().
async function open(has, file) {
  const text = async (name) => (await file(name)).text();
  const weights = await weightsOf(has, text);
  const bytes = weights.map(async (name) => ({ name, bytes: await (await file(name)).arrayBuffer() }));
  return { config: json(CONFIG, await text(CONFIG)), tokenizer: json(TOKENIZER, await text(TOKENIZER)), weights: await Promise.all(bytes) };
}

// The folder model/ beside this page, which has these files.
export async function beside(files) {
  return open((name) => files.includes(name), async (name) => {
    const answer = await fetch(`model/${name}`);
    if (!answer.ok) throw new Error(`model/${name}: the server answers ${answer.status}`);
    return answer;
  });
}

// Files with their paths: [{ path: "run/step-00005000/config.json", file }].
export async function among(files) {
  const folderOf = (path) => path.slice(0, path.lastIndexOf("/") + 1);
  const find = (folder, name) => files.find(({ path }) => path === folder + name)?.file;
  const folders = files.map(({ path }) => folderOf(path)).filter((folder, i, all) => all.indexOf(folder) === i);
  const whole = (folder) => find(folder, CONFIG) && find(folder, TOKENIZER) && (find(folder, SINGLE) || find(folder, INDEX));
  const models = folders.filter(whole).sort();
  if (models.length === 0) throw new Error(`no model among ${files.length} files: expected a folder with ${[CONFIG, SINGLE, TOKENIZER].join(", ")}`);
  // A run says in its file `latest` which checkpoint that is; their names sort by step.
  const latest = files.find(({ path }) => path.endsWith("/latest"));
  const named = latest && `${folderOf(latest.path)}${(await latest.file.text()).trim()}/`;
  const folder = models.includes(named) ? named : models.at(-1);
  return { name: folder.slice(0, -1), ...(await open((name) => Boolean(find(folder, name)), (name) => find(folder, name))) };
}

// The files of an <input>.
export const chosen = (input) => Array.from(input.files, (file) => ({ path: file.webkitRelativePath || file.name, file }));

// The files of a drop, those inside of folders too. Must be called before the event is over.
export async function dropped({ items, files }) {
  const entries = Array.from(items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return Array.from(files, (file) => ({ path: file.name, file }));
  const found = [];
  const walk = async (entry, path) => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ path: path + entry.name, file });
      return;
    }
    const reader = entry.createReader();
    // A folder is read in parts; an empty part ends it.
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (part.length === 0) return;
      for (const child of part) await walk(child, `${path}${entry.name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return found;
}
