// A model's folder: config.json, model.safetensors, tokenizer.json. From beside this page, or from what a person chose or dropped:
// such a folder, a run (whose latest checkpoint is taken), or the three files.

const NAMES = ["config.json", "model.safetensors", "tokenizer.json"];

// Parsed, as Model takes it.
async function open(texts, weights) {
  const [config, tokenizer] = texts.map((text, i) => {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new Error(`${["config.json", "tokenizer.json"][i]}: not JSON: ${error.message}`);
    }
  });
  return { config, tokenizer, weights };
}

// The folder model/ beside this page.
export async function beside() {
  const [config, weights, tokenizer] = await Promise.all(NAMES.map(async (name) => {
    const answer = await fetch(`model/${name}`);
    if (!answer.ok) throw new Error(`model/${name}: the server answers ${answer.status}`);
    return answer;
  }));
  return open([await config.text(), await tokenizer.text()], await weights.arrayBuffer());
}

// Files with their paths: [{ path: "run/step-00005000/config.json", file }].
export async function among(files) {
  const folderOf = (path) => path.slice(0, path.lastIndexOf("/") + 1);
  const find = (folder, name) => files.find(({ path }) => path === folder + name)?.file;
  const folders = files.map(({ path }) => folderOf(path)).filter((folder, i, all) => all.indexOf(folder) === i);
  const models = folders.filter((folder) => NAMES.every((name) => find(folder, name))).sort();
  if (models.length === 0) throw new Error(`no model among ${files.length} files: expected a folder with ${NAMES.join(", ")}`);
  // A run says in its file `latest` which checkpoint that is; their names sort by step.
  const latest = files.find(({ path }) => path.endsWith("/latest"));
  const named = latest && `${folderOf(latest.path)}${(await latest.file.text()).trim()}/`;
  const folder = models.includes(named) ? named : models.at(-1);
  const [config, weights, tokenizer] = NAMES.map((name) => find(folder, name));
  return { name: folder.slice(0, -1), ...(await open([await config.text(), await tokenizer.text()], await weights.arrayBuffer())) };
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
