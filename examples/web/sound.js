// A sound file or a recording to the mono samples that a model takes. The browser decodes and changes the rate.

// The first `length` samples at `rate`, channels averaged; a shorter sound is padded with silence. With `loudest`, the stretch of
// that length with the most energy: people do not start to speak at the moment when a recording begins.
export async function load(file, rate, length, { loudest = false } = {}) {
  let decoded;
  try {
    decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`${file.name ?? "the recording"} is not a sound that this browser can read (WAV and MP3 always are)`);
  }
  const mono = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    decoded.getChannelData(channel).forEach((x, i) => (mono[i] += x / decoded.numberOfChannels));
  }
  const clip = new Float32Array(length);
  const start = loudest ? loudestAt(mono, length) : 0;
  clip.set(mono.subarray(start, start + length));
  return clip;
}

function loudestAt(mono, length) {
  let energy = 0, best = -1, start = 0;
  mono.forEach((x, i) => {
    energy += x * x - (i >= length ? mono[i - length] ** 2 : 0);
    if (energy > best) [best, start] = [energy, Math.max(i + 1 - length, 0)];
  });
  return start;
}

// Records until `stop` is called, for at most ten seconds: { stop, file: a promise of what was recorded }.
export async function record() {
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) throw new Error("this browser does not record sound");
  // The model was not trained on sounds that are filtered as for the telephone.
  const wanted = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "this page may not use the microphone: allow it in the browser" : `no microphone: ${error.message}`);
  }
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const file = new Promise((resolve, reject) => {
    recorder.onerror = ({ error }) => reject(new Error(`the recording failed: ${error?.message ?? "unknown reason"}`));
    recorder.onstop = () => resolve(new Blob(parts, { type: recorder.mimeType }));
  }).finally(() => stream.getTracks().forEach((track) => track.stop()));
  recorder.start();
  const stop = () => recorder.state === "recording" && recorder.stop();
  setTimeout(stop, 10_000);
  return { stop, file };
}
