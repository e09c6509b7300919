// Lays a word's attention and gradients over the picture and the spectrogram. The data are in the page; nothing is fetched.
(() => {
  "use strict";
  // Dark to light, as in image.rs.
  const RAMP = [[20, 11, 52], [87, 34, 120], [186, 66, 92], [245, 142, 54], [252, 240, 170]];
  const colour = value => {
    const at = Math.min(Math.max(value, 0), 1) * (RAMP.length - 1);
    const low = Math.min(Math.floor(at), RAMP.length - 2);
    return RAMP[low].map((c, i) => c + (RAMP[low + 1][i] - c) * (at - low));
  };
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const percent = share => (share < 0.0995 ? (100 * share).toFixed(1) : (100 * share).toFixed(0)) + " %";
  const number = value => value === 0 ? "0" : Math.abs(value) < 0.001 ? value.toExponential(1) : value.toPrecision(2);

  // Numbers that were stored as bytes, each run of `size` relative to its own largest.
  const unpacked = (packed, signed) => {
    let raw = bytes(packed.values);
    if (signed) raw = new Int8Array(raw.buffer);
    const size = raw.length / packed.most.length, range = signed ? 127 : 255;
    return Float32Array.from(raw, (value, i) => value / range * packed.most[Math.floor(i / size)]);
  };
  const largest = values => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  const paint = (canvas, width, height, pixel) => {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) image.data.set(pixel(x, y), 4 * (y * width + x));
    context.putImageData(image, 0, 0);
  };
  const label = (canvas, text) => canvas.setAttribute("aria-label", text);

  const start = section => {
    const data = JSON.parse(section.querySelector("script").textContent);
    const find = name => section.querySelector("." + name);
    const buttons = [...section.querySelectorAll(".words button")];
    const [layer, head, kind] = ["layer", "head", "kind"].map(find);
    for (const word of data.words) {
      for (const part of ["picture", "sound"]) if (word[part]) word[part] = unpacked(word[part], false);
      for (const part of ["pixels", "mel"]) if (word[part]) word[part] = unpacked(word[part], true);
    }
    let current = 0;

    // The mean over the layers and heads that are chosen; `each` holds `size` numbers for each of them.
    const chosen = (each, size) => {
      const some = (select, count) => select.value < 0 ? [...Array(count).keys()] : [Number(select.value)];
      const sum = new Float32Array(size), layers = some(layer, data.layers), heads = some(head, data.heads);
      for (const l of layers) for (const h of heads) for (let i = 0; i < size; i++) sum[i] += each[(l * data.heads + h) * size + i];
      return sum.map(value => value / (layers.length * heads.length));
    };
    const place = () => {
      const l = layer.value < 0 ? "mean of all layers" : "layer " + (Number(layer.value) + 1);
      const h = head.value < 0 ? "mean of all heads" : "head " + (Number(head.value) + 1);
      return l + ", " + h;
    };
    const heat = share => [...colour(share), 60 + 120 * share];
    const opaque = rgb => [...rgb, 255];
    // Up is orange, down is blue, nothing is dark.
    const signed = share => share >= 0 ? [30 + 215 * share, 26 + 116 * share, 40 + 14 * share] : [30 - 20 * share, 26 - 154 * share, 40 - 205 * share];

    const show = () => {
      const word = data.words[current], how = kind.value;
      buttons.forEach((button, i) => {
        button.setAttribute("aria-pressed", i === current);
        button.tabIndex = i === current ? 0 : -1;
      });
      const on = chosen(word.on, 3);
      let said = "“" + word.text + "”: probability " + percent(word.p) + ". Its attention, " + place() + ": ";
      const shares = [];
      if (data.picture) shares.push(percent(on[0]) + " on the picture");
      if (data.sound) shares.push(percent(on[1]) + " on the sound");
      shares.push(percent(on[2]) + " on words and marks");
      said += shares.join(", ") + ".";
      if (data.picture) {
        const { side, grid } = data.picture, weights = chosen(word.picture, grid * grid), most = largest(weights) || 1;
        const at = weights.indexOf(Math.max(...weights));
        const where = "most at row " + (Math.floor(at / grid) + 1) + ", column " + (at % grid + 1) + " (" + percent(weights[at]) + ")";
        said += " On the picture " + where + ".";
        paint(find("picture-attention"), grid, grid, (x, y) => heat(weights[y * grid + x] / most));
        label(find("picture-attention"), "attention of “" + word.text + "” over the picture: " + where);
        const g = word.pixels, top = largest(g) || 1;
        const size = (x, y) => Math.hypot(...[0, 1, 2].map(c => g[3 * (y * side + x) + c]));
        let widest = 0;
        for (let i = 0; i < side * side; i++) widest = Math.max(widest, size(i % side, Math.floor(i / side)));
        const pixel = how === "size"
          ? (x, y) => opaque(colour(size(x, y) / (widest || 1)))
          : (x, y) => opaque([0, 1, 2].map(c => 128 + 127 * g[3 * (y * side + x) + c] / top));
        paint(find("picture-gradient"), side, side, pixel);
        label(find("picture-gradient"),
          "gradient of the log-probability of “" + word.text + "” with respect to the pixels: " +
            "at most " + number(largest(g)) + " nats for a step of 1 in 255");
        find("picture-most").textContent = number(largest(g));
      }
      if (data.sound) {
        const { frames, mels, rows, stride, seconds } = data.sound, weights = chosen(word.sound, rows), most = largest(weights) || 1;
        const at = weights.indexOf(Math.max(...weights));
        const where = "most at " + (at * stride / frames * seconds).toFixed(2) + " s (" + percent(weights[at]) + ")";
        said += " On the sound " + where + ".";
        paint(find("sound-attention"), frames, 1, x => heat(weights[Math.min(Math.floor(x / stride), rows - 1)] / most));
        label(find("sound-attention"), "attention of “" + word.text + "” over the spectrogram: " + where);
        const g = word.mel, top = largest(g) || 1, value = (x, y) => g[x * mels + mels - 1 - y] / top;
        const mel = how === "size" ? (x, y) => opaque(colour(Math.abs(value(x, y)))) : (x, y) => opaque(signed(value(x, y)));
        paint(find("sound-gradient"), frames, mels, mel);
        label(find("sound-gradient"),
          "gradient of the log-probability of “" + word.text + "” with respect to the mel frames: " +
            "at most " + number(largest(g)) + " nats for a step of 1");
        find("sound-most").textContent = number(largest(g));
      }
      find("status").textContent = said;
    };
    const go = to => {
      current = (to + buttons.length) % buttons.length;
      show();
    };
    buttons.forEach((button, i) => {
      button.addEventListener("click", () => go(i));
      button.addEventListener("keydown", event => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        go(i + step);
        buttons[current].focus();
      });
    });
    [layer, head, kind].forEach(select => select.addEventListener("change", show));
    for (const hidden of section.querySelectorAll(".live")) hidden.hidden = false;
    show();
  };
  document.querySelectorAll(".explain").forEach(start);
})();
