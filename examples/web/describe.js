// The part of the page that describes: what is shown and heard goes in, words come out, and each word shows what it was made from.

import { neverMet } from "./config.js";
import * as folder from "./folder.js";
import { Model } from "./model.js";
import { chosenWeights, drawPicture, drawSound } from "./overlay.js";
import { load as loadPicture } from "./picture.js";
import { load as loadSound, record } from "./sound.js";

const $ = (id) => document.getElementById(id);

// `alone(work)` runs work on the GPU when nothing else does; `trouble(error)` shows a message.
export class Describe {
  constructor(gpu, site, alone, trouble) {
    Object.assign(this, { gpu, site, alone, trouble, model: null, pixels: null, mel: null, answer: null, word: null, answers: 0 });
    const listen = (id, event, act) => $(id).addEventListener(event, (e) => this.attempt(() => act(e)));
    const inputs = { "choose-model": "model-folder", "choose-files": "model-files", "choose-picture": "picture-file", "choose-sound": "sound-file" };
    for (const [button, input] of Object.entries(inputs)) {
      listen(button, "click", () => $(input).click());
      // The same file may be chosen again.
      listen(input, "change", async () => {
        const files = folder.chosen($(input));
        $(input).value = "";
        if (files.length) await this.take(files);
      });
    }
    listen("remove-picture", "click", () => this.change(() => this.see(null)));
    listen("remove-sound", "click", () => this.change(() => this.listen(null)));
    listen("record", "click", () => this.record());
    listen("example", "click", () => this.example());
    listen("layer", "change", () => this.look());
    listen("head", "change", () => this.look());
    document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
    document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      document.body.classList.remove("dropping");
      const files = folder.dropped(event.dataTransfer); // the event forgets its files when it is over
      this.attempt(async () => this.take(await files));
    });
    document.addEventListener("paste", (event) => {
      const files = Array.from(event.clipboardData?.files ?? [], (file) => ({ path: file.name, file }));
      if (files.length) this.attempt(() => this.take(files));
    });
  }

  // An error is shown where everybody sees it, until the next attempt.
  async attempt(act) {
    this.trouble(null);
    try {
      await act();
    } catch (error) {
      this.trouble(error);
    }
  }

  // The model beside this page, where there is one.
  async start() {
    if (this.site.model) await this.attempt(async () => this.use({ name: this.site.model, ...(await folder.beside(this.site.files)) }));
    else $("model").textContent = "No model yet: choose a model folder, or drop one here. `trimodal train` and `trimodal demo` make them.";
  }

  // Files of any kind that a person gave: a model, pictures, sounds.
  async take(files) {
    const is = (kind, endings) => files.find(({ path, file }) => file.type.startsWith(kind) || endings.test(path))?.file;
    if (files.some(({ path }) => path.endsWith("config.json") || path.endsWith(".safetensors"))) return this.use(await folder.among(files));
    if (!this.model) throw new Error("there is no model yet to look or listen: choose a model folder first");
    const [picture, sound] = [is("image/", /\.(png|jpe?g|webp|gif)$/i), is("audio/", /\.(wav|mp3|ogg|opus|flac|m4a)$/i)];
    if (!picture && !sound) throw new Error(`${files[0]?.path ?? "this"}: expected a picture, a sound or a model's folder`);
    await this.change(async () => {
      if (picture) await this.see(picture);
      if (sound) await this.listen(sound);
    });
  }

  // Changes what is shown and heard; then describes it, once: what a picture says before its sound has come is about something else.
  // What has changed before an error is described all the same.
  async change(act) {
    try {
      await act();
    } finally {
      if (this.changed) await this.describe();
    }
  }

  async use({ name, ...files }) {
    $("model").textContent = "Loading the model …";
    const model = await this.alone(() => {
      const made = new Model(this.gpu, files);
      this.model?.destroy();
      return made;
    });
    Object.assign(this, { model, pixels: null, mel: null, answer: null });
    ["picture", "sound"].forEach((sense) => this.name(sense, null));
    const { vision, audio, length } = model.sizes;
    const senses = [vision && `sees ${vision.side} × ${vision.side} pixels`, audio && `hears ${audio.samples / audio.rate} s`].filter(Boolean).join(", ");
    $("model").textContent = `${name || "The model"}: ${model.parameters.toLocaleString("en")} parameters; ${senses || "reads"}, at most ${length} rows.`;
    $("inputs").hidden = !vision && !audio;
    $("sight").hidden = !vision;
    $("hearing").hidden = !audio;
    $("example").hidden = !this.site.example;
    const options = (what, count) => [new Option(`all ${what}s`, ""), ...Array.from({ length: count }, (_, i) => new Option(i + 1, i))];
    $("layer").replaceChildren(...options("layer", model.layers.length));
    $("head").replaceChildren(...options("head", model.sizes.H));
    await this.describe();
  }

  // Takes a picture, or removes the one that is shown.
  async see(file, caption = file?.name) {
    const { model } = this;
    const { vision } = model.sizes;
    if (file && !vision) throw new Error("this model has no eyes (its config.json has no vision_config)");
    const pixels = file && await loadPicture(file, vision.side, model.config.picture_fit);
    if (this.model !== model) return; // another one has come meanwhile
    this.pixels = pixels;
    this.name("picture", file && `${caption || "A picture"}, ${vision.side} × ${vision.side} pixels`);
    this.forget();
  }

  // Takes a sound, or removes the one that is heard.
  async listen(file, { caption = file?.name, loudest = false } = {}) {
    const { model } = this;
    const { audio } = model.sizes;
    if (file && !audio) throw new Error("this model has no ears (its config.json has no audio_config)");
    const waveform = file && await loadSound(file, audio.rate, audio.samples, { loudest });
    const mel = waveform && await this.working(() => (this.model === model ? model.hear(waveform) : null));
    if (this.model !== model) return;
    this.mel = mel;
    this.name("sound", file && `${caption || "A sound"}, ${audio.samples / audio.rate} s: time from left to right, high above low`);
    this.forget();
  }

  // The answer is about something that is not shown or heard any more.
  forget() {
    this.changed = true;
    this.answer = this.word = null;
    $("words").replaceChildren();
    $("answer").hidden = true;
    $("said").textContent = this.pixels || this.mel ? "Looking …" : "Nothing yet.";
    this.look();
  }

  name(sense, text) {
    $(`${sense}-caption`).textContent = text || { picture: "No picture: drop one, or paste it", sound: "No sound: drop one" }[sense];
    $(sense).classList.toggle("empty", !text);
    $(`remove-${sense}`).disabled = !text;
  }

  async record() {
    if (this.recording) return this.recording.stop();
    const button = $("record");
    this.recording = await record();
    [button.textContent, button.ariaPressed] = ["Stop", "true"];
    try {
      const file = await this.recording.file;
      await this.change(() => this.listen(file, { caption: "The loudest part of the recording", loudest: true }));
    } finally {
      [button.textContent, button.ariaPressed, this.recording] = ["Record", "false", null];
    }
  }

  async example() {
    const get = async (name) => (await fetch(`example/${name}`)).blob();
    await this.change(async () => {
      if (this.model.sizes.vision) await this.see(await get("picture.png"), "A drawn picture");
      if (this.model.sizes.audio) await this.listen(await get("sound.wav"), { caption: "A generated sound" });
      $("says").scrollIntoView({ block: "nearest" }); // beneath what is shown, it may be out of sight
    });
    $("says").scrollIntoView({ block: "nearest" });
  }

  // Work on the GPU, alone, with a bar while the browser compiles the kernels that it needs: the first time, that is most of the wait.
  working(work) {
    return this.alone(async () => {
      const [bar, line] = [$("compile-progress"), $("compiling")];
      this.gpu.onCompile = ({ done, of }) => {
        [bar.max, bar.value] = [of, done];
        line.textContent = `Preparing the kernels for this GPU, once: ${done} of ${of} are compiled.`;
        bar.hidden = line.hidden = done === of;
      };
      try {
        return await work();
      } finally {
        this.gpu.onCompile = () => {};
        bar.hidden = line.hidden = true;
      }
    });
  }

  // Describes what is shown and heard, word by word.
  async describe() {
    const { model, pixels, mel } = this;
    const current = () => this.model === model && this.pixels === pixels && this.mel === mel;
    this.forget();
    this.changed = false;
    if (!pixels && !mel) return;
    const onWord = (word, { text }) => { if (current()) $("said").textContent = `${text} …`; };
    const answer = await this.working(() => (current() ? model.describe({ pixels, mel, onWord }) : null));
    if (!answer || !current()) return; // the input has changed meanwhile, and is described next
    this.answer = answer;
    const why = neverMet(model.config, Boolean(pixels), Boolean(mel));
    $("said").textContent = answer.text || `(nothing: it ended at once${why ? `; ${why}` : ""})`;
    if (answer.text && why) $("said").textContent += ` (it may guess: ${why})`;
    $("words").replaceChildren(...answer.words.map((word, i) => {
      const [item, button] = [document.createElement("li"), document.createElement("button")];
      Object.assign(button, { type: "button", textContent: model.tokenizer.decode([word.id]) || "·", ariaPressed: "false" });
      button.dataset.id = word.id;
      button.addEventListener("click", () => this.choose(this.word === i ? null : i));
      item.append(button);
      return item;
    }));
    $("answer").hidden = answer.words.length === 0;
    $("answer").dataset.number = ++this.answers; // code that waits for an answer sees that this is a new one
    this.look();
  }

  // One of the words, or none.
  choose(word) {
    this.word = word;
    [...$("words").querySelectorAll("button")].forEach((button, i) => (button.ariaPressed = String(i === word)));
    this.look();
  }

  // Draws picture and sound, and over them what the chosen word looked at.
  look() {
    const { vision, audio } = this.model.sizes;
    const choice = (id) => ($(id).value === "" ? null : Number($(id).value));
    const word = this.answer?.words[this.word];
    const weights = word && chosenWeights(word.weights, choice("layer"), choice("head"));
    const { picture, sound } = this.answer?.prompt ?? {};
    const part = (span) => (weights && span ? [...weights.slice(span.start, span.end)] : null);
    // The row of the picture as a whole has no place among others to be shown at.
    const places = part(picture)?.slice(0, picture.shown);
    const said = word && this.model.tokenizer.decode([word.id]);
    const share = (name, on) => on && `${Math.round(100 * on.reduce((sum, w) => sum + w, 0))} % on the ${name}`;
    const shares = [share("picture", part(picture)), share("sound", part(sound))].filter(Boolean);
    const describes = (sense, does, there, on) => {
      const bright = on ? `; bright: what "${said}" was made from` : "";
      $(sense).setAttribute("aria-label", there ? `What the model ${does}${bright}` : `No ${sense}`);
    };
    $("looked").textContent = word
      ? `"${said}": of the attention that made it, ${shares.join(" and ")}; the rest on what comes between and before.`
      : "Choose a word to see what it was made from.";
    if (vision) drawPicture($("picture"), this.pixels, vision.side, places, vision.shown);
    if (audio) drawSound($("sound"), this.mel, audio.mels, part(sound));
    describes("picture", "sees", this.pixels, part(picture));
    describes("sound", "hears", this.mel, part(sound));
  }
}
